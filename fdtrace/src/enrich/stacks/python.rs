//! Which function and line of Python: from code objects in another process's memory to names.
//!
//! Runs in the reader process, which has the process's memory as a file and no other right to it. What is there its
//! owner has written, and may change meanwhile: every address is read with a bound, and every answer is checked.
//!
//! * `symbols`: where an ELF file has the interpreter's own data.
//! * `interpreter`: which one it is, and where it keeps what: by a table that is compared with what the interpreter
//!   says of its types.
//! * `code`: a code object's name, file and line.
//! * [`lines`]: tables of lines.
//! * [`memory`]: what all of it is read from.

mod code;
mod interpreter;
pub mod lines;
pub mod memory;
mod symbols;

pub use fdtrace_common::python::PythonFrame;

pub(super) use self::symbols::Symbols;
pub use self::{
    code::Functions,
    interpreter::{Interpreter, NotRead},
};

#[cfg(test)]
mod tests;
