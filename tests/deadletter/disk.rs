//! Small disks of a test's own, where root and the kernel allow them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::eventually;

/// A file system that is mounted as long as this lives.
pub(super) struct Disk {
    folder: tempfile::TempDir,
    mounted: bool,
    system: System,
}

/// A file system that lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum System {
    Ext4,
    Xfs,
}

impl System {
    const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// What makes one, and the least that it makes.
    const fn maker(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Ext4 => (&["mkfs.ext4", "-q", "-F"], "80M"),
            Self::Xfs => (&["mkfs.xfs", "-q", "-f"], "320M"),
        }
    }
}

impl Disk {
    /// In memory.
    pub(super) fn in_memory(size: &str) -> Option<Self> {
        let mut disk = Self::somewhere();
        let options = format!("size={size}");
        disk.mount(&["-t", "tmpfs", "-o", &options, "fender"]).then_some(disk)
    }

    /// ext4 in a file, by a loop device that goes with the mount.
    pub(super) fn ext4(size: &str) -> Option<Self> {
        Self::of(System::Ext4, size)
    }

    /// Of this file system, and no smaller than it likes.
    pub(super) fn ample(system: System) -> Option<Self> {
        Self::of(system, system.maker().1)
    }

    fn of(system: System, size: &str) -> Option<Self> {
        let mut disk = Self::somewhere();
        disk.system = system;
        let image = disk.image();
        let (maker, _) = system.maker();
        let made = run(Command::new("truncate").args(["-s", size]).arg(&image))
            && run(Command::new(maker[0]).args(&maker[1..]).arg(&image));
        if !made {
            eprintln!("SKIPPED: there is no {} to make a disk with", maker[0]);
            return None;
        }
        disk.mount_image().then_some(disk)
    }

    fn somewhere() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        Self { folder, mounted: false, system: System::Ext4 }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount_image(&mut self) -> bool {
        let image = self.image();
        self.mount(&["-t", self.system.name(), "-o", "loop,noatime", &image.to_string_lossy()])
    }

    fn mount(&mut self, arguments: &[&str]) -> bool {
        self.mounted = run(Command::new("mount").args(arguments).arg(self.path()));
        if !self.mounted {
            eprintln!("SKIPPED: a small disk can be mounted by root alone");
        }
        self.mounted
    }

    /// Something that cuts this disk's power; none where there is no Python to say it with.
    pub(super) fn switch(&self) -> Option<Switch> {
        Switch::on(&self.path())
    }

    /// The machine is on again: what is in the image is all that is left.
    ///
    /// Another mount namespace may hold the old mount for a moment longer, and whoever mounts it then gets the disk that is out.
    pub(super) fn power_on_again(&mut self) {
        eventually("the disk comes up", || {
            assert!(run(Command::new("umount").arg(self.path())), "somebody still holds the disk");
            self.mounted = false;
            assert!(self.mount_image());
            std::fs::write(self.path().join("lamp"), "on").is_ok()
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever still holds a file of it, the name goes now, and the device when the last file is closed.
        if self.mounted && !run(Command::new("umount").arg(self.path())) {
            run(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

/// Holds a disk's ioctl ready, in a process of its own: nothing here may call it, since it is no safe code.
pub(super) struct Switch {
    process: Child,
    says: BufReader<ChildStdout>,
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, which are `XFS_IOC_GOINGDOWN` and its flag too: from that call on nothing more is written, not even what the journal
/// holds in memory.
const CUT: &str = "import fcntl, os, struct, sys\n\
    disk = os.open(sys.argv[1], os.O_RDONLY)\n\
    print('ready', flush=True)\n\
    if sys.stdin.readline():\n\
    \x20   fcntl.ioctl(disk, 0x8004587D, struct.pack('I', 2))\n\
    \x20   print('cut', flush=True)\n";

impl Switch {
    fn on(disk: &Path) -> Option<Self> {
        let mut python = Command::new("python3");
        python.args(["-c", CUT]).arg(disk).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut process) = python.spawn() else {
            eprintln!("SKIPPED: there is no python3 to call an ioctl with");
            return None;
        };
        let says = BufReader::new(process.stdout.take().unwrap());
        let mut switch = Self { process, says };
        assert_eq!(switch.line(), "ready");
        Some(switch)
    }

    /// Cuts the power; false if this disk has no such call.
    pub(super) fn cut(mut self) -> bool {
        self.process.stdin.take().unwrap().write_all(b"now\n").unwrap();
        let cut = self.line() == "cut";
        self.process.wait().unwrap();
        cut
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It holds the disk; one that was thrown has ended.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    let worked = output.as_ref().is_ok_and(|output| output.status.success());
    if !worked {
        eprintln!("{command:?}: {output:?}");
    }
    worked
}
