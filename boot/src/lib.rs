//! A Linux kernel into guest RAM, and where to start it.
