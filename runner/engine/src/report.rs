//! Run reports: where they are kept and how they read. Their format is `errand_model::report`.

pub mod figure;
pub mod store;
pub mod table;
pub mod text;
