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

/// The entries of a zip archive that are stored as they are, without the directory they are in.
pub fn entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let number = |at: usize, width: usize| {
        bytes[at..at + width].iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte))
    };
    let heads = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"PK\x01\x02"));
    let entry = |head: usize| {
        let name = &bytes[head + 46..][..number(head + 28, 2)];
        let name = String::from_utf8_lossy(name).into_owned();
        let (local, size) = (number(head + 42, 4), number(head + 20, 4));
        let start = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let name = name.split_once('/').map_or(name.clone(), |(_, name)| name.to_owned());
        (name, bytes[start..start + size].to_vec())
    };
    heads.map(entry).collect()
}

/// Numbers from a seed, for changes to files.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % end.max(1)
    }

    /// A copy of `bytes` with one to four changes.
    pub fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            self.change_once(&mut bytes);
        }
        bytes
    }

    /// A byte changed, extreme numbers, a part cut out, put in twice or moved; or an instruction put in.
    fn change_once(&mut self, bytes: &mut Vec<u8>) {
        const CODES: &[u8] =
            b"(.012)]}RQbtu\x85\x86\x87\x88\x81\x93\x94N\x8a\x8b\x8c\x8dXqrhjcKJMGase";
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(24)).min(bytes.len());
        match self.below(7) {
            _ if bytes.is_empty() => bytes.push(self.below(256) as u8),
            0 | 1 => bytes[at] = self.below(256) as u8,
            2 => bytes[at..end].fill([0, 0xff, 0x7f, 0x80][self.below(4)]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let (part, to) = (bytes[at..end].to_vec(), self.below(bytes.len()));
                bytes.splice(to..to, part);
            }
            5 => bytes.insert(at, CODES[self.below(CODES.len())]),
            _ => bytes[at] = CODES[self.below(CODES.len())],
        }
    }
}
