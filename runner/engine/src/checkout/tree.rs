//! From a commit to files: the whole tree is looked at first, then written, byte for byte.
//!
//! Files are written here and not by libgit2, so no filter, line-end rule or attribute of the repository can change a byte, and no
//! hook runs. A tree that holds anything but files and folders is refused before the first file is written.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use errand_model::failure::{Failure, FailureKind};
use git2::{ObjectType, Odb, Oid, Repository};

use super::fault;
use super::watch::{Watch, too_large};

/// Folders deeper than this are an attack on the stack and on path lengths.
const MAX_DEPTH: usize = 64;

/// A single file is held in memory while it is written.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// File modes of git, by the bits that name the sort of entry.
const SORT: i32 = 0o170_000;
const SYMLINK: i32 = 0o120_000;
const COMMIT: i32 = 0o160_000;

/// A file of a tree, looked at and found good.
struct File {
    path: String,
    id: Oid,
    executable: bool,
}

/// Everything a tree holds, folders before what is in them.
#[derive(Default)]
struct Survey {
    folders: Vec<String>,
    files: Vec<File>,
    bytes: u64,
}

/// Writes the files of `commit` into `root`, which is made.
///
/// Fails as `Checkout` with `checkout::symlink`, `checkout::submodule`, `checkout::bad_path` or `checkout::too_large`, before anything is
/// written.
pub(super) fn write(repository: &Repository, commit: Oid, root: &Path, watch: &Watch) -> Result<(), Failure> {
    let survey = look_at(repository, commit, watch)?;
    let odb = repository.odb().map_err(|error| fault::local("cannot read the job repository", &error))?;
    make_folder(root, root)?;
    for folder in &survey.folders {
        make_folder(&root.join(folder), root)?;
    }
    for file in &survey.files {
        watch.check()?;
        write_file(&odb, file, root)?;
    }
    tracing::debug!(files = survey.files.len(), bytes = survey.bytes, "wrote the checkout");
    Ok(())
}

fn look_at(repository: &Repository, commit: Oid, watch: &Watch) -> Result<Survey, Failure> {
    let read_error = |error: git2::Error| fault::local("cannot read the job repository", &error);
    let root = repository.find_commit(commit).and_then(|commit| commit.tree()).map_err(read_error)?;
    let odb = repository.odb().map_err(read_error)?;
    let mut survey = Survey::default();
    let mut to_visit = vec![(String::new(), root.id(), 0)];
    while let Some((folder, id, depth)) = to_visit.pop() {
        let tree = repository.find_tree(id).map_err(read_error)?;
        for entry in &tree {
            watch.check()?;
            let path = checked_path(&folder, entry.name_bytes(), depth)?;
            refuse_all_but_files_and_folders(&path, entry.filemode_raw())?;
            if entry.kind() == Some(ObjectType::Tree) {
                to_visit.push((format!("{path}/"), entry.id(), depth + 1));
                survey.folders.push(path);
            } else {
                let (size, _) = odb.read_header(entry.id()).map_err(read_error)?;
                survey.bytes = survey.bytes.saturating_add(checked_size(&path, size as u64)?);
                survey.files.push(File { path, id: entry.id(), executable: entry.filemode_raw() & 0o100 != 0 });
            }
            check_totals(&survey, watch)?;
        }
    }
    Ok(survey)
}

/// The path of an entry, if it cannot lead out of the checkout nor into the administration of a git repository.
fn checked_path(folder: &str, name: &[u8], depth: usize) -> Result<String, Failure> {
    let shown = format!("{folder}{}", String::from_utf8_lossy(name).escape_debug());
    let bad = |why: &str| {
        Failure::new(FailureKind::Checkout, "checkout::bad_path", format!("the path `{shown}` in the job repository {why}"))
            .help("give it another name; nothing was written")
    };
    let text = std::str::from_utf8(name).map_err(|_| bad("is not UTF-8"))?;
    if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']) {
        return Err(bad("leads out of its folder"));
    }
    // Also as file systems that ignore letter case, and the short names of Windows, would read it.
    if text.eq_ignore_ascii_case(".git") || text.eq_ignore_ascii_case("git~1") {
        return Err(bad("belongs to git itself"));
    }
    if depth > MAX_DEPTH || folder.len() + text.len() > 4000 {
        return Err(bad("is too deep"));
    }
    if folder.is_empty() && text == ".gitmodules" {
        return Err(submodule(".gitmodules"));
    }
    Ok(format!("{folder}{text}"))
}

fn refuse_all_but_files_and_folders(path: &str, mode: i32) -> Result<(), Failure> {
    match mode & SORT {
        SYMLINK => {
            Err(Failure::new(FailureKind::Checkout, "checkout::symlink", format!("`{path}` in the job repository is a symbolic link"))
                .help("put the file itself there; links are refused because they can point out of the checkout"))
        }
        COMMIT => Err(submodule(path)),
        _ => Ok(()),
    }
}

fn submodule(path: &str) -> Failure {
    Failure::new(FailureKind::Checkout, "checkout::submodule", format!("the job repository has a submodule: `{path}`"))
        .help("copy the files it brings into the job repository; submodules are not fetched")
}

fn checked_size(path: &str, size: u64) -> Result<u64, Failure> {
    if size > MAX_FILE_BYTES {
        return Err(too_large(format!("`{path}` in the job repository has {size} bytes, more than {MAX_FILE_BYTES}")));
    }
    Ok(size)
}

fn check_totals(survey: &Survey, watch: &Watch) -> Result<(), Failure> {
    let limits = watch.limits();
    if survey.bytes > limits.max_bytes {
        return Err(too_large(format!("the files of the job repository have more than {} bytes", limits.max_bytes)));
    }
    if (survey.files.len() + survey.folders.len()) as u64 > limits.max_files {
        return Err(too_large(format!("the job repository has more than {} files and folders", limits.max_files)));
    }
    Ok(())
}

fn make_folder(folder: &Path, root: &Path) -> Result<(), Failure> {
    fs::create_dir(folder).map_err(|error| write_error(folder, root, &error))
}

/// `create_new`: a path that is there already, also as a link, is never written through.
fn write_file(odb: &Odb<'_>, file: &File, root: &Path) -> Result<(), Failure> {
    let object = odb.read(file.id).map_err(|error| fault::local("cannot read the job repository", &error))?;
    let path = root.join(&file.path);
    let mode = if file.executable { 0o755 } else { 0o644 };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&path)
        .and_then(|mut opened| opened.write_all(object.data()))
        .map_err(|error| write_error(&path, root, &error))
}

fn write_error(path: &Path, root: &Path, error: &std::io::Error) -> Failure {
    let shown = path.strip_prefix(root).ok().filter(|path| !path.as_os_str().is_empty()).unwrap_or(path);
    Failure::new(FailureKind::Permanent, "checkout::scratch", format!("cannot write `{}` of the checkout: {error}", shown.display()))
        .help("the scratch directory must be empty, writable and have space left")
}
