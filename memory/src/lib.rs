//! Guest RAM and the host memory behind it.
