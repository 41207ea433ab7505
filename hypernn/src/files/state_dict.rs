//! The `state_dict` in what `torch.save` wrote.

use std::collections::{HashMap, HashSet, VecDeque};

use candle_core::{DType, Result};

use super::pickle::{Node, Pickle, Value};
use super::strided::{MAX_RANK, Strided, named};
use crate::error::bail;

/// How deep dictionaries are looked into.
const MAX_DEPTH: usize = 16;

/// The length of all names together, in bytes.
const MAX_NAMES: usize = 1 << 26;

/// What a network's `state_dict` goes by in a dictionary, the usual first.
const USUAL: [&str; 12] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "model_state",
    "net_state_dict",
    "network_state_dict",
    "weights",
    "params",
    "parameters",
];

/// PyTorch's storages: the class, the dtype, the size of a value in bytes, and candle's dtype where
/// parameters of it are read.
const STORAGES: [(&str, &str, usize, Option<DType>); 18] = [
    ("FloatStorage", "float32", 4, Some(DType::F32)),
    ("DoubleStorage", "float64", 8, Some(DType::F64)),
    ("HalfStorage", "float16", 2, Some(DType::F16)),
    ("BFloat16Storage", "bfloat16", 2, Some(DType::BF16)),
    ("LongStorage", "int64", 8, Some(DType::I64)),
    ("ByteStorage", "uint8", 1, Some(DType::U8)),
    ("IntStorage", "int32", 4, None),
    ("ShortStorage", "int16", 2, None),
    ("CharStorage", "int8", 1, None),
    ("BoolStorage", "bool", 1, None),
    ("ComplexFloatStorage", "complex64", 8, None),
    ("ComplexDoubleStorage", "complex128", 16, None),
    ("QInt8Storage", "quantised, qint8", 1, None),
    ("QUInt8Storage", "quantised, quint8", 1, None),
    ("QInt32Storage", "quantised, qint32", 4, None),
    ("QUInt4x2Storage", "quantised, quint4x2", 1, None),
    ("QUInt2x4Storage", "quantised, quint2x4", 1, None),
    ("UntypedStorage", "untyped", 1, None),
];

/// Functions that make tensors of other kinds.
const KINDS: [(&str, &str); 6] = [
    ("_rebuild_sparse_tensor", "a sparse tensor"),
    ("_rebuild_sparse_csr_tensor", "a sparse tensor"),
    ("_rebuild_qtensor", "a quantised tensor"),
    ("_rebuild_nested_tensor", "a nested tensor"),
    ("_rebuild_meta_tensor_no_storage", "a tensor of the device `meta`, which has no values"),
    ("_rebuild_wrapper_subclass", "a tensor of a class of its own"),
];

/// Functions whose arguments are known.
const KNOWN: [&str; 6] = [
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_parameter_with_state",
    "_rebuild_from_type_v2",
];

/// The tensors of a `state_dict`.
#[derive(Default)]
pub(super) struct StateDict {
    /// The tensors by the key of their storage.
    pub(super) tensors: HashMap<String, Vec<(String, Strided)>>,
    /// What is not read, and why.
    pub(super) left_out: HashMap<String, String>,
}

/// A tensor as it is described.
enum Described {
    /// A part of the storage of this key.
    Part(String, Strided),
    LeftOut(String),
}

/// A dictionary with tensors: the path to it, and those.
struct Candidate {
    path: Vec<String>,
    tensors: Vec<(String, Value)>,
}

impl StateDict {
    /// The network's tensors in what was saved.
    ///
    /// # Errors
    /// There are none, or one is not described as PyTorch does.
    pub(super) fn find(pickle: &Pickle<'_>) -> Result<Self> {
        let mut candidates = candidates(pickle)?;
        if candidates.is_empty() {
            bail!(file, "it holds no tensors by name: {}", Contents(pickle).describe());
        }
        if let Some(index) = the_usual(&candidates) {
            let mut candidate = candidates.swap_remove(index);
            candidate.path.clear();
            candidates = vec![candidate];
        }
        let mut found = Self::default();
        for Candidate { path, tensors } in candidates {
            for (name, value) in tensors {
                let name = path.iter().cloned().chain([name]).collect::<Vec<_>>().join(".");
                match describe(pickle, value).map_err(|err| named(&name, &err))? {
                    Described::LeftOut(why) => drop(found.left_out.insert(name, why)),
                    Described::Part(storage, part) => {
                        found.tensors.entry(storage).or_default().push((name, part));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Which of several dictionaries is the network's: the only one, or one of the usual name. Where none
/// is, all are taken, and their paths are part of the names.
fn the_usual(candidates: &[Candidate]) -> Option<usize> {
    if let [only] = candidates {
        return (!only.path.is_empty()).then_some(0);
    }
    let is_usual = |name: &String| USUAL.contains(&name.as_str());
    let usual =
        |candidate: &Candidate| !candidate.path.is_empty() && candidate.path.iter().all(is_usual);
    let rank = |candidate: &Candidate| {
        let first = candidate.path.first();
        USUAL.iter().position(|usual| first.is_some_and(|name| name == usual))
    };
    let found = candidates.iter().enumerate().filter(|(_, candidate)| usual(candidate));
    found.min_by_key(|(_, candidate)| rank(candidate)).map(|(index, _)| index)
}

/// All dictionaries that hold tensors, but for those of optimisers.
fn candidates(pickle: &Pickle<'_>) -> Result<Vec<Candidate>> {
    let (mut found, mut seen, mut names) = (Vec::new(), HashSet::new(), 0);
    let mut open = VecDeque::from([(Vec::new(), pickle.root)]);
    while let Some((path, value)) = open.pop_front() {
        let Value::Node(index) = value else { continue };
        let Some(entries) = entries(pickle, value).filter(|_| seen.insert(index)) else { continue };
        let length: usize = path.iter().map(String::len).sum();
        let mut tensors = Vec::new();
        for (key, value) in entries {
            let (Some(key), Value::Node(_)) = (pickle.text(*key), value) else { continue };
            names += length + key.len();
            if names > MAX_NAMES {
                bail!(file, "its names have more than {MAX_NAMES} bytes together");
            }
            if rebuilt(pickle, *value).is_some() {
                tensors.push((key, *value));
            } else if path.len() < MAX_DEPTH && !key.to_lowercase().contains("optim") {
                open.push_back((path.iter().cloned().chain([key]).collect(), *value));
            }
        }
        if !tensors.is_empty() {
            found.push(Candidate { path, tensors });
        }
    }
    Ok(found)
}

/// The entries of a dictionary, or the attributes of a module of TorchScript.
fn entries<'a>(pickle: &'a Pickle<'_>, value: Value) -> Option<&'a [(Value, Value)]> {
    match pickle.node(value)? {
        Node::Dict(entries) => Some(entries),
        Node::Object { items, .. } if !items.is_empty() => Some(items),
        Node::Object { callable, state, .. } => {
            let (module, _) = pickle.global(*callable)?;
            match pickle.node(*state)? {
                Node::Dict(entries) if module.starts_with("__torch__") => Some(entries),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The function that makes a tensor, and its arguments; nothing for what is no tensor.
fn rebuilt<'a>(pickle: &'a Pickle<'_>, value: Value) -> Option<(String, &'a [Value])> {
    let Node::Object { callable, args, .. } = pickle.node(value)? else { return None };
    let (module, name) = pickle.global(*callable)?;
    let is_tensor = ["torch._utils", "torch._tensor"].contains(&module.as_str())
        && name.starts_with("_rebuild");
    is_tensor.then(|| (name, pickle.sequence(*args).unwrap_or_default()))
}

/// A tensor, whether it is a parameter or of a class of its own.
fn describe(pickle: &Pickle<'_>, value: Value) -> Result<Described> {
    let Some((mut function, mut args)) = rebuilt(pickle, value) else {
        bail!(file, "it is not made as PyTorch does");
    };
    for _ in 0..MAX_DEPTH {
        match (function.as_str(), args) {
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => {
                match rebuilt(pickle, *data) {
                    Some(inner) => (function, args) = inner,
                    None => bail!(file, "a parameter without a tensor"),
                }
            }
            ("_rebuild_from_type_v2", [of, _, inner, ..]) => {
                let Some((_, name)) = pickle.global(*of) else {
                    bail!(file, "a tensor of a class, but not how it is made");
                };
                (function, args) = (name, pickle.sequence(*inner).unwrap_or_default());
            }
            _ => return described(pickle, &function, args),
        }
    }
    bail!(file, "parameters of parameters, {MAX_DEPTH} deep")
}

fn described(pickle: &Pickle<'_>, function: &str, args: &[Value]) -> Result<Described> {
    if let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == function) {
        return Ok(Described::LeftOut((*kind).to_owned()));
    }
    let (storage, offset, dims, strides) = match (function, args) {
        // Those without a storage of their own have the dtype last.
        ("_rebuild_tensor_v3", [_, _, _, _, _, _, dtype, ..]) => {
            let dtype = pickle.global(*dtype).map_or("another kind".to_owned(), |(_, name)| name);
            return Ok(Described::LeftOut(format!("a tensor of {dtype}")));
        }
        ("_rebuild_tensor_v2" | "_rebuild_tensor", [storage, offset, dims, strides, ..]) => {
            (*storage, *offset, *dims, *strides)
        }
        _ if KNOWN.contains(&function) => {
            bail!(file, "`{function}` has {} arguments, which are too few", args.len())
        }
        _ => {
            return Ok(Described::LeftOut(format!("a tensor that `{function}` makes")));
        }
    };
    let PickledStorage { key, kind: (class, name, _, dtype) } =
        PickledStorage::of(pickle, storage)?;
    let Some(dtype) = *dtype else {
        return Ok(Described::LeftOut(format!("a tensor of {name} (`{class}`)")));
    };
    let (dims, strides) = (numbers(pickle, dims)?, numbers(pickle, strides)?);
    let part = Strided { dtype, offset: number(offset)?, dims, strides };
    Ok(Described::Part(key, part))
}

fn number(value: Value) -> Result<usize> {
    match value {
        Value::Int(number) if number >= 0 => Ok(number as usize),
        other => bail!(file, "{other:?} where a size or an offset should be"),
    }
}

fn numbers(pickle: &Pickle<'_>, value: Value) -> Result<Vec<usize>> {
    match pickle.sequence(value) {
        Some(values) if values.len() <= MAX_RANK => {
            values.iter().map(|value| number(*value)).collect()
        }
        Some(values) => bail!(file, "{} dimensions, expected at most {MAX_RANK}", values.len()),
        None => bail!(file, "a shape that is no tuple"),
    }
}

/// A storage, as a tensor names it.
pub(super) struct PickledStorage {
    pub(super) key: String,
    kind: &'static (&'static str, &'static str, usize, Option<DType>),
}

impl PickledStorage {
    /// `("storage", class, key, device, length, …)`.
    fn of(pickle: &Pickle<'_>, value: Value) -> Result<Self> {
        let Some(Node::Persistent(id)) = pickle.node(value) else {
            bail!(file, "a tensor without a storage");
        };
        let Some([_, class, key, _, _, ..]) = pickle.sequence(*id) else {
            bail!(file, "a storage that is not named as PyTorch does");
        };
        let (Some((_, class)), Some(key)) = (pickle.global(*class), pickle.text(*key)) else {
            bail!(file, "a storage without a class and a key");
        };
        match STORAGES.iter().find(|kind| kind.0 == class) {
            Some(kind) => Ok(Self { key, kind }),
            None => bail!(file, "a storage of the class `{class}`, which is not known"),
        }
    }

    /// The size of a value in bytes.
    pub(super) fn item_size(&self) -> usize {
        self.kind.2
    }
}

/// All storages that a pickle names.
pub(super) fn storages(pickle: &Pickle<'_>) -> impl Iterator<Item = PickledStorage> {
    pickle.persistent().filter_map(|value| PickledStorage::of(pickle, value).ok())
}

/// What a pickle holds in place of tensors by name, in words.
struct Contents<'a, 'b>(&'a Pickle<'b>);

impl Contents<'_, '_> {
    fn describe(&self) -> String {
        let pickle = self.0;
        if rebuilt(pickle, pickle.root).is_some() {
            return "it is one tensor without a name".to_owned();
        }
        let expected = "expected what `torch.save(net.state_dict(), path)` writes";
        match pickle.node(pickle.root) {
            Some(Node::Dict(entries)) => {
                let keys = entries.iter().filter_map(|(key, _)| pickle.text(*key));
                let keys: Vec<_> = keys.take(8).collect();
                match entries.len() {
                    0 => format!("it is an empty dictionary, {expected}"),
                    _ if keys.is_empty() => {
                        format!("its dictionary has no keys that are texts, {expected}")
                    }
                    len => format!("its keys are {}, {expected}", super::list(&keys, len)),
                }
            }
            Some(Node::Sequence(values)) => {
                format!("it is a list or tuple of {} values, {expected}", values.len())
            }
            Some(Node::Object { callable, .. }) => match pickle.global(*callable) {
                Some((module, name)) => format!(
                    "it is an object of the class `{module}.{name}`, as `torch.save(net, path)` writes a whole network; save `net.state_dict()` in its place"
                ),
                None => format!("it is an object, {expected}"),
            },
            _ => format!("it is a single value, {expected}"),
        }
    }
}
