//! Where a field is looked at, and how its quality is measured: the tests beside those modules.

// What the example alone uses is unused here.
#![allow(missing_docs, dead_code, unreachable_pub)]

#[path = "../image_field/field.rs"]
mod field;
#[path = "../image_field/quality.rs"]
mod quality;
#[path = "../image_field/siren.rs"]
mod siren;
