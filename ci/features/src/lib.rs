//! Nothing: the package is there for the features in its manifest.
