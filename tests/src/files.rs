//! PyTorch's files, written by hand: pickles from their parts, and zip archives of entries as they are.

/// An expression of a pickle.
#[derive(Clone, Debug)]
pub struct Pickle(Vec<u8>);

impl Pickle {
    /// The whole pickle, of protocol 2.
    pub fn file(&self) -> Vec<u8> {
        [b"\x80\x02", &self.0[..], b"."].concat()
    }

    /// An integer of eight bytes.
    pub fn int(value: i64) -> Self {
        Self([&b"\x8a\x08"[..], &value.to_le_bytes()].concat())
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        Self([b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat())
    }

    /// A class or a function.
    pub fn global(module: &str, name: &str) -> Self {
        Self(format!("c{module}\n{name}\n").into_bytes())
    }

    /// A tuple.
    pub fn tuple(items: &[Self]) -> Self {
        let items: Vec<u8> = items.iter().flat_map(|item| item.0.clone()).collect();
        Self([b"(", &items[..], b"t"].concat())
    }

    /// A dictionary whose keys are texts.
    pub fn dict(entries: &[(&str, Self)]) -> Self {
        let entries = entries.iter().flat_map(|(key, value)| [Self::text(key).0, value.0.clone()]);
        Self([b"}(", &entries.flatten().collect::<Vec<_>>()[..], b"u"].concat())
    }

    /// What a function of these arguments gives.
    pub fn call(module: &str, name: &str, args: &Self) -> Self {
        Self([&Self::global(module, name).0[..], &args.0, b"R"].concat())
    }

    /// What lies outside of the pickle, by a tuple.
    pub fn persistent(id: &[Self]) -> Self {
        Self([&Self::tuple(id).0[..], b"Q"].concat())
    }

    /// A tensor in the storage of this key, of a class such as `FloatStorage`, as PyTorch writes it.
    pub fn tensor(
        class: &str,
        key: &str,
        numel: i64,
        offset: i64,
        dims: &[i64],
        strides: &[i64],
    ) -> Self {
        let id = [
            Self::text("storage"),
            Self::global("torch", class),
            Self::text(key),
            Self::text("cpu"),
            Self::int(numel),
        ];
        Self::tensor_of(&Self::persistent(&id), offset, dims, strides)
    }

    /// A tensor in a storage.
    pub fn tensor_of(storage: &Self, offset: i64, dims: &[i64], strides: &[i64]) -> Self {
        let ints =
            |ints: &[i64]| Self::tuple(&ints.iter().map(|int| Self::int(*int)).collect::<Vec<_>>());
        let hooks = Self::call("collections", "OrderedDict", &Self::tuple(&[]));
        let requires_grad = Self(b"\x89".to_vec());
        let args =
            [storage.clone(), Self::int(offset), ints(dims), ints(strides), requires_grad, hooks];
        Self::call("torch._utils", "_rebuild_tensor_v2", &Self::tuple(&args))
    }
}

/// A zip archive of these entries, stored as they are, below the directory `x`.
pub fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let name = format!("x/{name}");
        // Version, flags, method, time and date; checksum, both sizes, the length of the name.
        let mut common = vec![10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc32(content).to_le_bytes());
        common.extend([(content.len() as u32).to_le_bytes(); 2].concat());
        common.extend((name.len() as u16).to_le_bytes());
        directory.extend(b"PK\x01\x02\x0a\0");
        directory.extend(&common);
        directory.extend([0; 12]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&common);
        bytes.extend([0; 2]);
        bytes.extend(name.as_bytes());
        bytes.extend(content);
    }
    let (start, count) = (bytes.len() as u32, (entries.len() as u16).to_le_bytes());
    let length = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend(length);
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// An archive that says another size of one entry, in both places.
pub fn patched(bytes: &[u8], name: &str, size: u32) -> Vec<u8> {
    let (mut patched, name) = (bytes.to_vec(), format!("x/{name}"));
    for (magic, sizes, at_name) in [(b"PK\x03\x04", 18, 30), (b"PK\x01\x02", 20, 46)] {
        for at in 0..bytes.len() {
            let is_entry = bytes[at..].starts_with(magic)
                && bytes.get(at + at_name..).is_some_and(|rest| rest.starts_with(name.as_bytes()));
            if is_entry {
                patched[at + sizes..][..8].copy_from_slice(&[size.to_le_bytes(); 2].concat());
            }
        }
    }
    patched
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 > 0 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(!0, byte)
}
