//! The alerting Lambda: tells people of failed and late runs.
//!
//! It has no behaviour in this version; the package is here because its dependencies are a promise: never an embedded warehouse.

fn main() {}
