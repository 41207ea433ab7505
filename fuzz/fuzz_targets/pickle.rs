//! A pickle in an archive of PyTorch's form, whose checksums fit.

#![no_main]

use hypernn::Pretrained;
use hypernn_tests::files::archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.pt");
    let entries = [("data.pkl", data.to_vec()), ("data/0", vec![0; 96]), ("data/1", vec![1; 64])];
    std::fs::write(&path, archive(&entries)).unwrap();
    let _ = Pretrained::open(&path);
});
