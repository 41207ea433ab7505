//! The macros of hypernn.
