//! Folders that leakwatch writes to by itself, as root, for a long time: the one place that makes, replaces and removes files there.
//!
//! Everything goes by the folder's descriptor, which is had step by step: a directory on the way that anybody may write, or a link
//! that is somebody else's, is refused, and so is a folder that others may write to. What was opened stays the same folder, whatever
//! is put at its path. A file is made where there is none, or made beside and renamed: a link, a pipe or another name of somebody's
//! file is never written through. Must never wait for whoever reads a pipe, nor write to a file that it did not make.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, readlinkat,
        renameat, statat, unlinkat,
    },
    io::Errno,
};

/// Links on the way to a folder, at most, as the kernel has it (`MAXSYMLINKS` of include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// A folder that is open.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder of our own; it is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or opened, is a link, or others may write to it or to what leads there.
    pub fn of_ours(path: &Path) -> io::Result<Self> {
        let folder = Self(walk(path, true)?);
        check(&fstat(&folder.0)?)?;
        Ok(folder)
    }

    /// Opens a folder as it is, whoever else may write to it.
    ///
    /// # Errors
    /// When it cannot be opened, is a link, or anybody may write to what leads there.
    pub fn of_anybody(path: &Path) -> io::Result<Self> {
        walk(path, false).map(Self)
    }

    /// A file that was not there, for us alone to read and write.
    ///
    /// # Errors
    /// When its name is taken, by whatever it is, or it cannot be made.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    /// A file of ours to be locked; made if it is not there.
    ///
    /// # Errors
    /// When there is something else by its name.
    pub fn lock_file(&self, name: &str) -> io::Result<File> {
        self.open(name, OFlags::RDWR | OFlags::CREATE)
    }

    /// A file of ours, to be read.
    ///
    /// # Errors
    /// When it is not there, or there is something else by its name: a link, a pipe, a file that others may write.
    pub fn read(&self, name: &str) -> io::Result<File> {
        self.open(name, OFlags::RDONLY)
    }

    fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        // Without O_NONBLOCK, to open a pipe is to wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no file"));
        }
        check(&stat)?;
        Ok(file.into())
    }

    /// Puts a whole file with these bytes there, with this mode; what had its name before is gone, and is not touched if it was a link.
    ///
    /// # Errors
    /// When it cannot be written; what was there stays then.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let partial = format!("{name}.new");
        let written = self.write_partial(&partial, bytes, mode);
        let renamed = written.and_then(|()| self.rename(&partial, name));
        if renamed.is_err()
            && let Err(left) = self.remove(&partial)
        {
            tracing::debug!("{partial} stays: {left}");
        }
        renamed
    }

    fn write_partial(&self, partial: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        // Of a run that was killed.
        self.remove(partial)?;
        let mut file = self.create(partial)?;
        file.write_all(bytes)?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Gives a file another name; what had that is gone.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Takes a name away, if it is there; what a link leads to stays.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The files in it with what is known of each, in any order; links, folders and pipes are left out.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn files(&self) -> io::Result<Vec<(String, Stat)>> {
        let mut files = Vec::new();
        for entry in Dir::read_from(self.0.as_fd())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let stat = match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Somebody else removed it.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                files.push((name.to_owned(), stat));
            }
        }
        Ok(files)
    }
}

/// The folder and the name in it that a path means.
///
/// # Errors
/// When it has no name of a file at its end.
pub fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| io::Error::other("its last part is no name of a file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((folder, name))
}

fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw() || stat.st_uid == 0
}

/// Nobody else may write there.
fn check(stat: &Stat) -> io::Result<()> {
    if is_ours(stat) && stat.st_mode & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other("others may write to it: give it to yourself, and `chmod go-w` it"))
}

/// Opens a folder, step by step from the root; with `make` those are made that are not there.
fn walk(path: &Path, make: bool) -> io::Result<OwnedFd> {
    let path = std::path::absolute(path)?;
    let mut left = parts(&path);
    let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = || openat(CWD, "/", step | OFlags::DIRECTORY, Mode::empty());
    let mut here = root()?;
    let mut links = 0;
    while let Some(name) = left.pop() {
        let stat = fstat(&here)?;
        // In a sticky one others cannot move what is not theirs.
        if stat.st_mode & 0o002 != 0 && stat.st_mode & libc::S_ISVTX == 0 {
            return Err(io::Error::other("anybody may write to a folder on the way to it"));
        }
        let next = match openat(&here, &name, step, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                // Who comes between is looked at like any other.
                match mkdirat(&here, &name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => openat(&here, &name, step, Mode::empty())?,
                    Err(error) => return Err(error.into()),
                }
            }
            other => other?,
        };
        let stat = fstat(&next)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => here = next,
            FileType::Symlink if left.is_empty() => {
                return Err(io::Error::other("it is a link, not a folder"));
            }
            FileType::Symlink if !is_ours(&stat) => {
                return Err(io::Error::other("a link on the way to it is somebody else's"));
            }
            FileType::Symlink => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = OsString::from_vec(readlinkat(&next, "", Vec::new())?.into_bytes());
                if target.as_bytes().starts_with(b"/") {
                    here = root()?;
                }
                left.extend(parts(Path::new(&target)));
            }
            _ => return Err(Errno::NOTDIR.into()),
        }
    }
    Ok(openat(&here, ".", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The names that a path has, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        path::PathBuf,
    };

    use super::*;

    /// A folder for an attack: something precious, and where we write.
    struct Scene {
        dir: tempfile::TempDir,
        ours: PathBuf,
        folder: Folder,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("precious"), "precious").expect("written");
            let ours = dir.path().join("a/b/ours");
            let folder = Folder::of_ours(&ours).expect("made");
            Self { dir, ours, folder }
        }

        #[track_caller]
        fn nothing_happened(&self) {
            let path = self.dir.path().join("precious");
            assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o644);
        }

        fn text(&self, name: &str) -> String {
            let mut text = String::new();
            self.folder.read(name).expect("a file").read_to_string(&mut text).expect("a text");
            text
        }
    }

    #[test]
    fn what_is_made_is_ours_alone() {
        let scene = Scene::new();
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!(mode(&scene.ours), 0o700);
        assert_eq!(mode(&scene.dir.path().join("a")), 0o700);
        scene.folder.create("one").expect("made");
        scene.folder.lock_file("lock").expect("made");
        scene.folder.replace("told", b"all", 0o644).expect("written");
        scene.folder.replace("told", b"all of it", 0o644).expect("written again");
        assert_eq!((mode(&scene.ours.join("one")), mode(&scene.ours.join("lock"))), (0o600, 0o600));
        assert_eq!((mode(&scene.ours.join("told")), scene.text("told")), (0o644, "all of it".to_owned()));
        let mut names: Vec<String> =
            scene.folder.files().expect("read").into_iter().map(|(name, _)| name).collect();
        names.sort();
        assert_eq!(names, ["lock", "one", "told"]);
    }

    #[test]
    fn links_pipes_and_second_names_are_not_written_through() {
        let scene = Scene::new();
        let precious = scene.dir.path().join("precious");
        let (folder, ours) = (&scene.folder, &scene.ours);
        for name in ["x", "x.new", "gone"] {
            symlink(&precious, ours.join(name)).expect("linked");
        }
        symlink(scene.dir.path().join("absent"), ours.join("dangling")).expect("linked");
        fs::hard_link(&precious, ours.join("y")).expect("a second name");
        fs::hard_link(&precious, ours.join("y.new")).expect("a second name");
        nix::unistd::mkfifo(&ours.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        nix::unistd::mkfifo(&ours.join("pipe.new"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        fs::create_dir(ours.join("below")).expect("made");
        for name in ["x", "dangling", "y", "pipe", "below"] {
            assert!(folder.create(name).is_err(), "{name} is taken");
        }
        for name in ["x", "dangling", "pipe", "below"] {
            assert!(folder.read(name).is_err() && folder.lock_file(name).is_err(), "{name} is no file");
        }
        for name in ["x", "y", "pipe", "dangling"] {
            folder.replace(name, b"ours", 0o600).expect("replaced");
            assert_eq!(scene.text(name), "ours");
        }
        folder.remove("gone").expect("the link alone");
        folder.remove("gone").expect("it is not there any more");
        assert!(!scene.dir.path().join("absent").exists(), "it was made through a link");
        scene.nothing_happened();
    }

    #[test]
    fn another_folder_in_its_place_gets_nothing() {
        let scene = Scene::new();
        let other = scene.dir.path().join("other");
        fs::create_dir(&other).expect("made");
        let moved = scene.dir.path().join("moved");
        fs::rename(&scene.ours, &moved).expect("moved");
        symlink(&other, &scene.ours).expect("linked");
        scene.folder.replace("file", b"ours", 0o600).expect("written");
        scene.folder.create("second").expect("made");
        assert!(moved.join("file").exists() && moved.join("second").exists());
        assert_eq!(fs::read_dir(&other).expect("there").count(), 0);
        let error = Folder::of_ours(&scene.ours).expect_err("a link").to_string();
        assert!(error.contains("it is a link"), "{error}");
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        let scene = Scene::new();
        let refused = |path: &Path, why: &str| {
            let error = Folder::of_ours(path).expect_err(why).to_string();
            assert!(error.contains(why), "{}: {error}", path.display());
        };
        let set =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        set(&scene.ours, 0o770);
        refused(&scene.ours, "others may write");
        set(&scene.ours, 0o700);
        // One on the way: what is in it can be moved, unless it is sticky.
        let way = scene.dir.path().join("a");
        set(&way, 0o777);
        refused(&scene.ours, "on the way");
        assert!(Folder::of_anybody(&scene.ours).is_err());
        set(&way, 0o1777);
        Folder::of_ours(&scene.ours).expect("nobody else can move it");
        // Links of ours are followed, also relative ones and several; a ring of them is not.
        let link = scene.dir.path().join("link");
        symlink("a", &link).expect("linked");
        Folder::of_ours(&link.join("b/ours")).expect("as it is");
        symlink("ring", scene.dir.path().join("ring")).expect("linked");
        assert!(Folder::of_ours(&scene.dir.path().join("ring/b")).is_err());
        refused(&scene.dir.path().join("precious/below"), "Not a directory");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::lchown(&link, Some(12345), None).expect("given away");
        refused(&link.join("b/ours"), "somebody else's");
        fs::write(scene.ours.join("file"), "of another").expect("written");
        chown(scene.ours.join("file"), Some(12345), None).expect("given away");
        assert!(scene.folder.read("file").is_err(), "its owner may write to it");
        chown(&scene.ours, Some(12345), None).expect("given away");
        refused(&scene.ours, "others may write");
    }
}
