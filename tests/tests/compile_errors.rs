//! What a wrong declaration says: one file per mistake, the messages beside it.
//!
//! The messages are those of the pinned toolchain; `TRYBUILD=overwrite` rewrites them.

#[test]
fn messages() {
    trybuild::TestCases::new().compile_fail("tests/compile_errors/*/*.rs");
}
