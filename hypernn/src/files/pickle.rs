//! Python's pickles, as data: what they hold is taken apart, and none of it is run.
//!
//! Values lie in one list and name each other by number. A value that is used twice is there once,
//! nesting takes no stack, and what a pickle can make is bounded by its own length and by
//! [`MAX_VALUES`], whatever it says.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::Result;

use crate::error::{bail, file};

/// The values that are taken from one pickle. That of a large model has some hundred thousand.
const MAX_VALUES: usize = 1 << 22;

/// Longer texts are no names.
const MAX_NAME: usize = 1 << 12;

/// A value of Python.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    /// A number, a truth value or bytes that nothing here looks at.
    Other,
    None,
    Bool(bool),
    Int(i64),
    /// Text, by its place in the pickle.
    Text(usize, usize),
    /// A container or an object, by its number.
    Node(usize),
}

/// A value of Python that holds others.
#[derive(Debug)]
pub(super) enum Node {
    /// A class or a function.
    Global {
        module: Range<usize>,
        name: Range<usize>,
    },
    /// A tuple, a list or a set.
    Sequence(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// What a class or a function gives for these arguments; what was set in it, and its state.
    Object {
        callable: Value,
        args: Value,
        items: Vec<(Value, Value)>,
        state: Value,
    },
    /// What lies outside of the pickle, such as a storage.
    Persistent(Value),
}

/// A pickle that has been read.
pub(super) struct Pickle<'a> {
    bytes: &'a [u8],
    nodes: Vec<Node>,
    pub(super) root: Value,
    /// Where it ends.
    pub(super) end: usize,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of these bytes.
    ///
    /// # Errors
    /// It is not a whole pickle, or has too many values.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut machine = Machine::new(bytes);
        loop {
            let at = machine.at;
            let done = machine.step().map_err(|err| {
                let what = format!("its pickle is not as PyTorch writes one, at byte {at}: {err}");
                file(what)
            })?;
            if let Some(root) = done {
                return Ok(Self { bytes, nodes: machine.nodes, root, end: machine.at });
            }
        }
    }

    pub(super) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(index) => self.nodes.get(index),
            _ => None,
        }
    }

    /// All that lies outside of it.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Value> {
        let nodes = self.nodes.iter().enumerate();
        nodes
            .filter_map(|(at, node)| matches!(node, Node::Persistent(_)).then_some(Value::Node(at)))
    }

    /// A text that can be a name. Python's may be of any bytes; other than UTF-8 is replaced.
    pub(super) fn text(&self, value: Value) -> Option<String> {
        match value {
            Value::Text(start, end) => self.name(start..end),
            _ => None,
        }
    }

    fn name(&self, range: Range<usize>) -> Option<String> {
        (range.len() <= MAX_NAME).then(|| String::from_utf8_lossy(&self.bytes[range]).into_owned())
    }

    pub(super) fn sequence(&self, value: Value) -> Option<&[Value]> {
        match self.node(value)? {
            Node::Sequence(values) => Some(values),
            _ => None,
        }
    }

    /// The module and the name of a class or a function.
    pub(super) fn global(&self, value: Value) -> Option<(String, String)> {
        match self.node(value)? {
            Node::Global { module, name } => {
                Some((self.name(module.clone())?, self.name(name.clone())?))
            }
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Value>,
    /// The height of the stack at each mark.
    marks: Vec<usize>,
    memo: HashMap<usize, Value>,
    pushed: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (nodes, stack, marks, memo) = Default::default();
        Self { bytes, at: 0, nodes, stack, marks, memo, pushed: 0 }
    }

    /// The next bytes.
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            bail!(file, "it ends within {count} bytes that were to come");
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// An integer of `count` bytes, at most eight, the lowest first.
    fn number(&mut self, count: usize) -> Result<u64> {
        Ok(self.take(count)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, count: usize) -> Result<usize> {
        let length = self.number(count)?;
        match usize::try_from(length) {
            Ok(length) => Ok(length),
            Err(_) => bail!(file, "a length of {length}"),
        }
    }

    /// The line that begins here, without its end.
    fn line(&mut self) -> Result<Range<usize>> {
        let start = self.at;
        let Some(len) = self.bytes[start..].iter().position(|byte| *byte == b'\n') else {
            bail!(file, "a line without an end");
        };
        self.at = start + len + 1;
        Ok(start..start + len)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.pushed += 1;
        if self.pushed > MAX_VALUES {
            bail!(file, "it has more than {MAX_VALUES} values");
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value> {
        match self.stack.pop() {
            Some(value) if self.stack.len() >= self.floor() => Ok(value),
            _ => bail!(file, "it takes a value that is not there"),
        }
    }

    fn last(&self) -> Result<Value> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.floor() => Ok(*value),
            _ => bail!(file, "it takes a value that is not there"),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
        match start {
            Some(start) => Ok(self.stack.split_off(start)),
            None => bail!(file, "it takes {count} values, which are not there"),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => bail!(file, "it goes back to a mark that is not there"),
        }
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Value, Value)>> {
        let values = self.pop_to_mark()?;
        if values.len() % 2 > 0 {
            bail!(file, "a dictionary with a key that has no value");
        }
        Ok(values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }

    /// One instruction; the result where it is the last.
    fn step(&mut self) -> Result<Option<Value>> {
        let code = self.byte()?;
        match code {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME: how the rest is written.
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let value = self.last()?;
                self.push(value)?;
            }
            _ if self.constant(code)? || self.text(code)? || self.memo(code)? => {}
            _ => self.container(code)?,
        }
        Ok(None)
    }

    /// NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT, INT, LONG, FLOAT.
    fn constant(&mut self, code: u8) -> Result<bool> {
        let value = match code {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(self.number(4)? as u32 as i32)),
            b'K' => Value::Int(self.number(1)? as i64),
            b'M' => Value::Int(self.number(2)? as i64),
            0x8a => {
                let count = self.length(1)?;
                self.long(count)?
            }
            0x8b => {
                let count = self.length(4)?;
                self.long(count)?
            }
            b'G' => {
                self.take(8)?;
                Value::Other
            }
            b'I' | b'L' | b'F' => {
                self.line()?;
                Value::Other
            }
            _ => return Ok(false),
        };
        self.push(value)?;
        Ok(true)
    }

    /// An integer of any length, the lowest byte first, the highest bit its sign.
    fn long(&mut self, count: usize) -> Result<Value> {
        let bytes = self.take(count)?;
        if count > 8 {
            return Ok(Value::Other);
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 > 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..count].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }

    /// The many ways to write texts and bytes.
    fn text(&mut self, code: u8) -> Result<bool> {
        let (width, is_text) = match code {
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8; SHORT_BINSTRING, BINSTRING of Python 2.
            0x8c | b'U' => (1, true),
            b'X' | b'T' => (4, true),
            0x8d => (8, true),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8.
            b'C' => (1, false),
            b'B' => (4, false),
            0x8e | 0x96 => (8, false),
            // UNICODE.
            b'V' => {
                let line = self.line()?;
                self.push(Value::Text(line.start, line.end))?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        let count = self.length(width)?;
        let start = self.at;
        self.take(count)?;
        self.push(if is_text { Value::Text(start, self.at) } else { Value::Other })?;
        Ok(true)
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
    fn memo(&mut self, code: u8) -> Result<bool> {
        match code {
            b'q' | b'r' => {
                let key = self.length(if code == b'q' { 1 } else { 4 })?;
                self.memo.insert(key, self.last()?);
            }
            0x94 => {
                self.memo.insert(self.memo.len(), self.last()?);
            }
            b'h' | b'j' => {
                let key = self.length(if code == b'h' { 1 } else { 4 })?;
                let Some(value) = self.memo.get(&key).copied() else {
                    bail!(file, "it has no value number {key}");
                };
                self.push(value)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn container(&mut self, code: u8) -> Result<()> {
        match code {
            // EMPTY_TUPLE, EMPTY_LIST, EMPTY_SET, EMPTY_DICT.
            b')' | b']' | 0x8f => self.push_node(Node::Sequence(Vec::new())),
            b'}' => self.push_node(Node::Dict(Vec::new())),
            // TUPLE1 to TUPLE3, TUPLE, LIST, FROZENSET, DICT.
            0x85..=0x87 => {
                let values = self.pop_many(usize::from(code - 0x84))?;
                self.push_node(Node::Sequence(values))
            }
            b't' | b'l' | 0x91 => {
                let values = self.pop_to_mark()?;
                self.push_node(Node::Sequence(values))
            }
            b'd' => {
                let pairs = self.pop_pairs()?;
                self.push_node(Node::Dict(pairs))
            }
            // APPEND, APPENDS, ADDITEMS, SETITEM, SETITEMS.
            b'a' => {
                let value = self.pop()?;
                self.append(&[value])
            }
            b'e' | 0x90 => {
                let values = self.pop_to_mark()?;
                self.append(&values)
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.set(&[(pair[0], pair[1])])
            }
            b'u' => {
                let pairs = self.pop_pairs()?;
                self.set(&pairs)
            }
            _ => self.object(code),
        }
    }

    fn append(&mut self, values: &[Value]) -> Result<()> {
        // What is added to a list of a class of its own is of no use here.
        if let Some(Node::Sequence(list)) = self.last_node()? {
            list.extend(values);
        }
        Ok(())
    }

    fn set(&mut self, pairs: &[(Value, Value)]) -> Result<()> {
        match self.last_node()? {
            Some(Node::Dict(items) | Node::Object { items, .. }) => items.extend(pairs),
            _ => bail!(file, "it sets items of what has none"),
        }
        Ok(())
    }

    fn last_node(&mut self) -> Result<Option<&mut Node>> {
        Ok(match self.last()? {
            Value::Node(index) => self.nodes.get_mut(index),
            _ => None,
        })
    }

    fn object(&mut self, code: u8) -> Result<()> {
        match code {
            // GLOBAL, STACK_GLOBAL.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push_node(Node::Global { module, name })
            }
            0x93 => match self.pop_many(2)?[..] {
                [Value::Text(start, end), Value::Text(name_start, name_end)] => {
                    let (module, name) = (start..end, name_start..name_end);
                    self.push_node(Node::Global { module, name })
                }
                _ => bail!(file, "a class whose name is no text"),
            },
            // REDUCE, NEWOBJ, NEWOBJ_EX.
            b'R' | 0x81 => {
                let values = self.pop_many(2)?;
                self.call(values[0], values[1])
            }
            0x92 => {
                let values = self.pop_many(3)?;
                self.call(values[0], values[1])
            }
            // BUILD.
            b'b' => {
                let new = self.pop()?;
                if let Some(Node::Object { state, .. }) = self.last_node()? {
                    *state = new;
                }
                Ok(())
            }
            // BINPERSID.
            b'Q' => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
            _ => bail!(file, "an instruction {code:#04x} that is not known"),
        }
    }

    /// A dictionary that keeps its order is a dictionary; all else stays as it is written.
    fn call(&mut self, callable: Value, args: Value) -> Result<()> {
        if self.is_ordered_dict(callable) {
            let pairs = self.pairs(args);
            return self.push_node(Node::Dict(pairs));
        }
        self.push_node(Node::Object { callable, args, items: Vec::new(), state: Value::None })
    }

    fn is_ordered_dict(&self, callable: Value) -> bool {
        let Value::Node(index) = callable else { return false };
        match &self.nodes[index] {
            Node::Global { module, name } => {
                &self.bytes[module.clone()] == b"collections"
                    && [&b"OrderedDict"[..], b"defaultdict"].contains(&&self.bytes[name.clone()])
            }
            _ => false,
        }
    }

    /// `([[key, value], …],)`, as Python 2 passes a dictionary's items.
    fn pairs(&self, args: Value) -> Vec<(Value, Value)> {
        let sequence = |value| match value {
            Value::Node(index) => match &self.nodes[index] {
                Node::Sequence(values) => &values[..],
                _ => &[],
            },
            _ => &[],
        };
        let [items] = sequence(args) else { return Vec::new() };
        let pair = |item: &Value| match sequence(*item) {
            [key, value] => Some((*key, *value)),
            _ => None,
        };
        sequence(*items).iter().filter_map(pair).collect()
    }
}
