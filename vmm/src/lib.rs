//! Ballast: a KVM virtual machine monitor for people who care where guest memory is.
