//! The lab: real guests on a real host, and the harness of the tests in it.
