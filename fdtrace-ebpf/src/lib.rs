//! Empty: lets the `fdtrace` package depend on this one, so that cargo rebuilds when it changes.
#![no_std]
