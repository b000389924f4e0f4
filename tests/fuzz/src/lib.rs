//! What fuzz targets share. The targets are in `fuzz_targets`, their seeds in `corpus`.

mod machine;

pub use machine::Machine;
