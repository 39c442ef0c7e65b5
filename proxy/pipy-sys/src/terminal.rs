//! Terminals for programs that want one.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// LIMIT: bytes of a terminal's name; `/dev/pts/` and a number.
const NAME_BYTES_MAX: usize = 64;

/// Makes a terminal: our side of it, and the program's. Neither is inherited by programs that are not given it.
///
/// # Errors
/// What the operating system says, such as that there are no more terminals.
pub fn open_terminal() -> io::Result<(File, File)> {
    // SAFETY: a call without pointers; a descriptor that it returns is open and nobody else's.
    let ours = unsafe {
        let descriptor = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(descriptor)
    };
    let mut name = [0; NAME_BYTES_MAX];
    // SAFETY: the descriptor is open; the buffer is live and its length is given.
    let failed = unsafe {
        libc::grantpt(ours.as_raw_fd()) != 0
            || libc::unlockpt(ours.as_raw_fd()) != 0
            || libc::ptsname_r(ours.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    let path = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    let path = path.to_str().map_err(io::Error::other)?;
    let theirs = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path)?;
    Ok((ours.into(), theirs))
}

/// Makes the program the leader of a session of its own, whose terminal is its standard input.
pub fn lead_session(command: &mut Command) {
    // SAFETY: between fork and exec only system calls are made, which need no lock and no memory.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_program_finds_itself_on_a_terminal() {
        let (mut ours, theirs) = open_terminal().expect("a terminal");
        let mut command = Command::new("sh");
        command.args(["-c", "test -t 0 && test -t 1 && echo yes < /dev/tty"]);
        command.stdin(theirs.try_clone().expect("input")).stdout(theirs);
        lead_session(&mut command);
        let mut child = command.spawn().expect("a program");
        drop(command);
        let mut said = Vec::new();
        let mut piece = [0; 64];
        // When the last writer has gone, Linux says EIO.
        while let Ok(count @ 1..) = ours.read(&mut piece) {
            said.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
        assert_eq!(String::from_utf8_lossy(&said), "yes\r\n");
        assert!(child.wait().expect("its end").success());
    }
}
