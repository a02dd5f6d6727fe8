//! Becoming another program: what an upgrade in place does in a forked child. Everything that needs memory is made
//! before the fork, by [`Program::image`]; the child only opens descriptors for the new program and leaves.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::check;

/// A command line and its surroundings: all that is needed to start it once more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The path of the executable; it is not searched for.
    pub executable: PathBuf,
    /// Its arguments, the first one its name.
    pub arguments: Vec<OsString>,
    /// Its environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory. A symbolic link is followed when the program starts, and not before.
    pub directory: PathBuf,
}

/// A [`Program`] in the form that execve(2) takes.
#[derive(Clone, Debug)]
pub struct Image {
    executable: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
}

impl Program {
    /// Makes the image of the program with these variables on top of its environment; they replace its own of the same
    /// names.
    ///
    /// # Errors
    /// `InvalidInput` for a NUL byte anywhere, or an empty path.
    pub fn image(&self, variables: &[(&str, String)]) -> io::Result<Image> {
        if self.executable.as_os_str().is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the executable is not known"));
        }
        let kept =
            self.environment.iter().filter(|(name, _)| variables.iter().all(|(extra, _)| name != extra));
        let pair = |name: &[u8], value: &[u8]| CString::new([name, b"=", value].concat());
        let mut environment = kept
            .map(|(name, value)| pair(name.as_bytes(), value.as_bytes()))
            .collect::<Result<Vec<_>, _>>()?;
        for (name, value) in variables {
            environment.push(pair(name.as_bytes(), value.as_bytes())?);
        }
        let arguments = self.arguments.iter().map(|argument| CString::new(argument.clone().into_vec()));
        Ok(Image {
            executable: CString::new(self.executable.as_os_str().as_bytes())?,
            arguments: arguments.collect::<Result<_, _>>()?,
            environment,
            directory: CString::new(self.directory.as_os_str().as_bytes())?,
        })
    }
}

impl Image {
    /// Becomes the program, in its directory. It inherits the descriptors in `kept`, and all others that are not
    /// close-on-exec.
    ///
    /// # Errors
    /// What fcntl(2), chdir(2) and execve(2) answer. The process is the former one then, but for its directory and for
    /// the descriptors: it should leave.
    pub fn exec(&self, kept: &[RawFd]) -> io::Result<Infallible> {
        for fd in kept {
            // SAFETY: F_SETFD takes no pointer.
            check(unsafe { libc::fcntl(*fd, libc::F_SETFD, 0) })?;
        }
        // SAFETY: the path is a C string.
        check(unsafe { libc::chdir(self.directory.as_ptr()) })?;
        Ok(nix::unistd::execve(&self.executable, &self.arguments, &self.environment)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        Program {
            executable: "/bin/sh".into(),
            arguments: vec!["sh".into(), "-c".into(), "exit $STATUS".into()],
            environment: vec![("STATUS".into(), "1".into()), ("OTHER".into(), "x".into())],
            directory: "/".into(),
        }
    }

    #[test]
    fn variables_replace_those_of_the_program() {
        let image = program().image(&[("STATUS", "7".to_owned())]).unwrap();
        assert_eq!(image.environment, [c"OTHER=x".to_owned(), c"STATUS=7".to_owned()]);
    }

    #[test]
    fn what_execve_cannot_take_is_refused_before_the_fork() {
        let table = [
            Program { executable: PathBuf::new(), ..program() },
            Program { arguments: vec!["a\0b".into()], ..program() },
            Program { directory: "/\0".into(), ..program() },
        ];
        for program in table {
            assert_eq!(program.image(&[]).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{program:?}");
        }
    }

    #[test]
    fn a_child_becomes_the_program() {
        for (executable, expected) in [("/bin/sh", 7), ("/no/such/program", 9)] {
            let program = Program { executable: executable.into(), ..program() };
            let image = program.image(&[("STATUS", "7".to_owned())]).unwrap();
            // SAFETY: the child makes system calls only; what they need was made before.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                let _ = image.exec(&[]);
                super::super::process::exit_now(9);
            }
            let mut status = -1;
            // SAFETY: waits for the child made above.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(libc::WEXITSTATUS(status), expected, "{executable}");
        }
    }
}
