//! Job repositories on this machine: a directory as it lies, or a commit of a git repository read without a transfer.
//!
//! Writes nothing into them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use errand_model::failure::{Failure, FailureKind};
use git2::{ErrorCode, Oid, Repository, RepositoryOpenFlags, StatusOptions};

use super::fault;
use super::reference::{Advertised, choose};
use super::remote::commit_of;

/// A directory as it lies.
pub(super) struct WorkTree {
    pub(super) root: PathBuf,
    /// The commit it stands on, when it is a git repository or lies in one.
    pub(super) commit: Option<Oid>,
    pub(super) uncommitted_changes: bool,
}

/// Looks at a directory. Nothing when it is a bare git repository, which has no files to use in place.
///
/// A git repository that libgit2 cannot read, such as one in a format of its own, does not keep its files from being used: then the
/// commit is not known, and what no commit is known to hold counts as changed.
pub(super) fn work_tree(directory: &Path) -> Result<Option<WorkTree>, Failure> {
    let root = directory.canonicalize().map_err(|error| unreadable(directory, &error))?;
    if !root.is_dir() {
        return Err(unreadable(directory, &ErrorKind::NotADirectory.into()));
    }
    let state = state(&root).unwrap_or_else(|error| {
        tracing::warn!(directory = %root.display(), reason = error.message(), "cannot read the git repository, the report will name no commit");
        State::Files { commit: None, uncommitted_changes: true }
    });
    Ok(match state {
        State::Bare => None,
        State::Files { commit, uncommitted_changes } => Some(WorkTree { root, commit, uncommitted_changes }),
    })
}

/// What git knows of a directory.
enum State {
    Bare,
    Files { commit: Option<Oid>, uncommitted_changes: bool },
}

fn state(root: &Path) -> Result<State, git2::Error> {
    const OUTSIDE: State = State::Files { commit: None, uncommitted_changes: false };
    let repository = match Repository::discover(root) {
        Ok(repository) => repository,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(OUTSIDE),
        Err(error) => return Err(error),
    };
    let Some(top) = repository.workdir() else {
        let is_bare_itself = repository.path().canonicalize().is_ok_and(|path| path == root);
        return Ok(if is_bare_itself { State::Bare } else { OUTSIDE });
    };
    let top = top.canonicalize().map_err(|error| git2::Error::from_str(&error.to_string()))?;
    let Ok(inside) = root.strip_prefix(&top) else { return Ok(OUTSIDE) };
    // A directory that the repository around it ignores, such as one below `target`, is none of its business.
    if !inside.as_os_str().is_empty() && repository.is_path_ignored(inside)? {
        return Ok(OUTSIDE);
    }
    let commit = match repository.head().and_then(|head| head.peel_to_commit()) {
        Ok(commit) => Some(commit.id()),
        Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => None,
        Err(error) => return Err(error),
    };
    Ok(State::Files { commit, uncommitted_changes: has_changes(&repository, inside)? })
}

/// Opens the repository at `directory`, and resolves `reference` in it to a commit.
pub(super) fn committed(directory: &Path, reference: Option<&str>) -> Result<(Repository, Oid), Failure> {
    directory.metadata().map_err(|error| unreadable(directory, &error))?;
    let error = |error: git2::Error| fault::local(&format!("cannot read the git repository `{}`", directory.display()), &error);
    let no_parents: [&Path; 0] = [];
    let repository = match Repository::open_ext(directory, RepositoryOpenFlags::NO_SEARCH, no_parents) {
        Ok(repository) => repository,
        Err(found) if found.code() == ErrorCode::NotFound => {
            let message = format!("`{}` is no git repository", directory.display());
            return Err(Failure::new(FailureKind::Checkout, "checkout::not_found", message)
                .help("name the top directory of a git repository, or leave out the reference to use the files as they lie there"));
        }
        Err(found) => return Err(error(found)),
    };
    let advertised = references(&repository).map_err(error)?;
    let choice = choose(&advertised, reference)?;
    let commit = commit_of(&repository, &choice, reference, &advertised)?;
    Ok((repository, commit))
}

/// The references of a local repository, as a server would list them.
fn references(repository: &Repository) -> Result<Vec<Advertised>, git2::Error> {
    let mut advertised = Vec::new();
    if let Ok(id) = repository.refname_to_id("HEAD") {
        advertised.push(Advertised { name: "HEAD".to_owned(), id });
    }
    for reference in repository.references()? {
        let reference = reference?;
        let Ok(name) = reference.name().map(str::to_owned) else { continue };
        let Some(id) = reference.resolve().ok().and_then(|resolved| resolved.target()) else { continue };
        if let Ok(commit) = reference.peel_to_commit().map(|commit| commit.id())
            && commit != id
        {
            advertised.push(Advertised { name: format!("{name}^{{}}"), id: commit });
        }
        advertised.push(Advertised { name, id });
    }
    Ok(advertised)
}

/// Whether a file below `inside` is new, gone, or differs from the commit. Ignored files do not count.
fn has_changes(repository: &Repository, inside: &Path) -> Result<bool, git2::Error> {
    let mut options = StatusOptions::new();
    options.include_untracked(true).include_ignored(false).exclude_submodules(true).update_index(false);
    if !inside.as_os_str().is_empty() {
        options.pathspec(inside).disable_pathspec_match(true);
    }
    Ok(!repository.statuses(Some(&mut options))?.is_empty())
}

fn unreadable(directory: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FailureKind::Checkout, "checkout::not_found", format!("no job repository at `{}`: {error}", directory.display()))
        .help("name a directory that holds `errand.yaml`, or the URL of a git repository")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use git2::Signature;

    use super::*;

    fn repository(directory: &Path) -> (Repository, Oid) {
        super::super::library::prepare().expect("set up");
        let repository = Repository::init(directory).expect("made");
        fs::create_dir_all(directory.join("inner")).expect("made");
        fs::write(directory.join("errand.yaml"), "version: 1\n").expect("written");
        fs::write(directory.join("inner/file"), "x\n").expect("written");
        fs::write(directory.join(".gitignore"), "/target\n").expect("written");
        let mut index = repository.index().expect("an index");
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).expect("added");
        index.write().expect("written");
        let commit = {
            let tree = repository.find_tree(index.write_tree().expect("a tree")).expect("found");
            let who = Signature::new("A Tester", "tester@example.com", &git2::Time::new(1_767_000_000, 0)).expect("a name");
            repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[]).expect("committed")
        };
        (repository, commit)
    }

    #[track_caller]
    fn seen(directory: &Path) -> (Option<Oid>, bool) {
        let tree = work_tree(directory).expect("readable").expect("has files");
        (tree.commit, tree.uncommitted_changes)
    }

    #[test]
    fn a_directory_outside_of_git_has_no_commit() {
        let scratch = tempfile::tempdir().expect("a directory");
        assert_eq!(seen(scratch.path()), (None, false));
        let failure = work_tree(&scratch.path().join("missing")).map(|_| ()).expect_err("missing");
        assert_eq!((failure.kind, failure.code.as_str()), (FailureKind::Checkout, "checkout::not_found"));
    }

    #[test]
    fn every_sort_of_uncommitted_change_is_seen() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (repository, commit) = repository(scratch.path());
        assert_eq!(seen(scratch.path()), (Some(commit), false));
        fs::create_dir(scratch.path().join("target")).expect("made");
        fs::write(scratch.path().join("target/ignored"), "x").expect("written");
        assert_eq!(seen(scratch.path()), (Some(commit), false), "ignored files do not count");
        fs::write(scratch.path().join("inner/file"), "changed\n").expect("written");
        assert_eq!(seen(scratch.path()), (Some(commit), true), "modified");
        let mut index = repository.index().expect("an index");
        index.add_path(Path::new("inner/file")).expect("added");
        index.write().expect("written");
        assert_eq!(seen(scratch.path()), (Some(commit), true), "staged");
        fs::write(scratch.path().join("inner/file"), "x\n").expect("written");
        index.add_path(Path::new("inner/file")).expect("added");
        index.write().expect("written");
        assert_eq!(seen(scratch.path()), (Some(commit), false));
        fs::write(scratch.path().join("new"), "x").expect("written");
        assert_eq!(seen(scratch.path()), (Some(commit), true), "untracked");
        assert_eq!(seen(&scratch.path().join("inner")), (Some(commit), false), "a folder knows its own changes alone");
    }

    #[test]
    fn an_ignored_directory_is_no_part_of_the_repository_around_it() {
        let scratch = tempfile::tempdir().expect("a directory");
        let _ = repository(scratch.path());
        fs::create_dir_all(scratch.path().join("target/demo")).expect("made");
        assert_eq!(seen(&scratch.path().join("target/demo")), (None, false));
    }

    #[test]
    fn a_repository_that_cannot_be_read_does_not_keep_its_files_from_being_used() {
        let scratch = tempfile::tempdir().expect("a directory");
        let (repository, _) = repository(scratch.path());
        repository.config().and_then(|mut config| config.set_i32("core.repositoryformatversion", 1)).expect("set");
        repository.config().and_then(|mut config| config.set_str("extensions.refstorage", "reftable")).expect("set");
        assert_eq!(seen(scratch.path()), (None, true));
    }

    #[test]
    fn a_repository_without_a_commit_has_uncommitted_changes_only() {
        let scratch = tempfile::tempdir().expect("a directory");
        Repository::init(scratch.path()).expect("made");
        assert_eq!(seen(scratch.path()), (None, false));
        fs::write(scratch.path().join("errand.yaml"), "version: 1\n").expect("written");
        assert_eq!(seen(scratch.path()), (None, true));
    }
}
