//! What tests in the lab host work with.
