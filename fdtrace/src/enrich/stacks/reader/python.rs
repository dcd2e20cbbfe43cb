//! What the process is asked of interpreters.

use std::os::fd::AsFd;

use fdtrace_common::python::{PYTHON_FRAMES, PythonFrame, PythonLayout};
use log::warn;

use super::{
    super::{image::Image, python::NotRead, stack::Frame},
    Failure, Reader,
    wire::{Answer, Request},
};

impl Reader {
    /// Where the interpreter of a process keeps its frames, by a thread that is in one of its functions.
    pub(in super::super) fn interpreter(
        &mut self,
        image: &mut Image,
        thread_pointer: u64,
    ) -> Result<PythonLayout, NotRead> {
        if self.refused_images.contains(&image.key) {
            return Err(NotRead::NotYet);
        }
        let outcome = self.twice(|reader| {
            reader.tell_image(image)?;
            let interpreter = image.interpreter.as_ref().ok_or(Failure::Absent)?;
            let request = Request::Interpreter {
                key: image.key,
                modules: interpreter.modules(),
                thread_pointer,
            };
            reader.send(&request, &[], Some(interpreter.memory().as_fd()))?;
            match reader.receive()? {
                Answer::Interpreter(found) => Ok(found),
                _ => Err(Failure::Died),
            }
        });
        let found = self.judge_python(outcome, image);
        found.unwrap_or(Err(NotRead::NotYet))
    }

    /// The functions of these frames; `None` where the process does not know the interpreter.
    pub(in super::super) fn functions(
        &mut self,
        image: &Image,
        frames: &[PythonFrame],
    ) -> Option<Vec<Frame>> {
        if self.refused_images.contains(&image.key) {
            return None;
        }
        let outcome = self.twice(|reader| {
            let request = Request::Functions {
                key: image.key,
                frames: frames.to_vec(),
            };
            match reader.ask(&request, &[])? {
                Answer::Functions(functions) => Ok(functions.map(|mut functions| {
                    functions.truncate(PYTHON_FRAMES);
                    functions
                })),
                _ => Err(Failure::Died),
            }
        });
        self.judge_python(outcome, image).flatten()
    }

    fn judge_python<T>(&mut self, outcome: Result<T, Failure>, image: &Image) -> Option<T> {
        self.judge(outcome, |reader, failure| {
            reader.refused_images.insert(image.key);
            warn!(
                "no stacks of process {}: reading its interpreter {failure}",
                image.tgid
            );
        })
    }
}
