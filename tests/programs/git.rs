//! git and a build: many small files, renames over open files, mmap of packs, time stamps that make(1) trusts.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::common::{TempDir, Vault, run};
use crate::snapshot::{AccessTimes, Snapshot};
use crate::support::{command, installed, mkdir, noise, sh, write};

const COMMITS: usize = 300;

/// git with nobody's settings.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = command("git");
    for (role, name) in [("AUTHOR", "A"), ("COMMITTER", "C")] {
        command
            .env(format!("GIT_{role}_NAME"), name)
            .env(format!("GIT_{role}_EMAIL"), "test@example.invalid");
    }
    command
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(directory);
    run(command.args(arguments)).ok()
}

/// A repository with a history, made outside of the vault.
fn make_history(repository: &Path) {
    git(repository, &["init", "-q", "-b", "main", "."]);
    let mut history = String::new();
    for n in 1..=COMMITS {
        let when = 1_700_000_000 + n * 60;
        write!(
            history,
            "commit refs/heads/main\ncommitter C <test@example.invalid> {when} +0000\n"
        )
        .expect("a string");
        let message = format!("change {n}\n");
        write!(history, "data {}\n{message}", message.len()).expect("a string");
        for (path, repeat) in [
            (format!("src/part_{}/file_{}.c", n % 20, n % 60), n % 90),
            ("README".to_owned(), n),
        ] {
            let content = format!("line {n} of {path}\n").repeat(repeat + 1);
            write!(
                history,
                "M 100644 inline {path}\ndata {}\n{content}\n",
                content.len()
            )
            .expect("a string");
        }
        if n % 30 == 0 {
            let tag = format!("reset refs/tags/v{n}\nfrom refs/heads/main\n\n");
            history.push_str(&tag);
        }
    }
    let mut import = command("git")
        .args(["fast-import", "--quiet"])
        .current_dir(repository)
        .stdin(Stdio::piped())
        .spawn()
        .expect("git is installed");
    import
        .stdin
        .take()
        .expect("piped")
        .write_all(history.as_bytes())
        .expect("git reads it");
    assert!(import.wait().expect("it was started here").success());
    git(repository, &["reset", "-q", "--hard"]);
}

#[test]
fn git_clones_commits_packs_and_checks_out() {
    if !installed("git", &["git"]) {
        return;
    }
    let outside = TempDir::new();
    let original = outside.dir("original");
    make_history(&original);
    let url = format!("file://{}", original.display());
    let vault = Vault::new();

    let mount = vault.mount();
    git(mount.path(), &["clone", "-q", &url, "clone"]);
    let clone = mount.join("clone");
    for n in 0..40 {
        write(clone.join(format!("note {n}")), noise(n, 3000));
        git(&clone, &["add", "-A"]);
        git(&clone, &["commit", "-q", "-m", "a commit in the vault"]);
    }
    git(&clone, &["gc", "-q"]);
    git(&clone, &["fsck", "--full", "--strict"]);
    let head = git(&clone, &["rev-parse", "HEAD"]);
    assert_eq!(
        git(&clone, &["rev-list", "--count", "HEAD"]).trim(),
        (COMMITS + 40).to_string()
    );
    mount.umount();

    let mount = vault.mount();
    let clone = mount.join("clone");
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), head);
    assert_eq!(git(&clone, &["status", "--porcelain"]), "");
    git(&clone, &["fsck", "--full", "--strict"]);
    for version in ["v60", "v270"] {
        git(&clone, &["checkout", "-q", version]);
        git(&original, &["checkout", "-q", version]);
        let (here, there) = (mount.join("clone/src"), original.join("src"));
        assert_eq!(
            sh(
                Path::new("/"),
                &format!("diff -r {} {}", here.display(), there.display())
            ),
            ""
        );
    }
    git(
        outside.path(),
        &[
            "clone",
            "-q",
            &format!("file://{}", clone.display()),
            "back",
        ],
    );
    git(&outside.join("back"), &["fsck", "--full", "--strict"]);
    mount.umount();
}

#[test]
fn a_build_inside_compiles_links_runs_and_rebuilds_only_what_changed() {
    if !installed("build-essential", &["cc", "make", "ar"]) {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount();
    let project = mkdir(mount.join("project"));
    let mut sum = String::new();
    for n in 0..12 {
        write(
            project.join(format!("part{n}.c")),
            format!("int part{n}(void) {{ return {n}; }}\n"),
        );
        write!(sum, " + part{n}()").expect("a string");
    }
    let declared: String = (0..12).map(|n| format!("int part{n}(void);\n")).collect();
    write(project.join("parts.h"), declared);
    let main = format!(
        "#include <stdio.h>\n#include \"parts.h\"\nint main(void) {{ return printf(\"%d\\n\", 0{sum}) < 0; }}\n"
    );
    write(project.join("main.c"), main);
    write(
        project.join("Makefile"),
        "OBJECTS = $(patsubst %.c,%.o,$(wildcard part*.c))\n\
         program: main.o libparts.a\n\tcc -o $@ $^\n\
         libparts.a: $(OBJECTS)\n\trm -f $@; ar rcs $@ $^\n\
         main.o: parts.h\n",
    );
    sh(&project, "make -s -j4");
    assert_eq!(sh(&project, "./program"), "66\n");
    mount.umount();

    let mount = vault.mount();
    let project = mount.join("project");
    assert_eq!(sh(&project, "./program"), "66\n");
    assert!(
        sh(&project, "make").contains("up to date"),
        "times were not kept"
    );
    write(project.join("part3.c"), "int part3(void) { return 103; }\n");
    let made = sh(&project, "make");
    assert!(
        made.contains("part3.o") && !made.contains("-o part4.o"),
        "{made}"
    );
    assert_eq!(sh(&project, "./program"), "166\n");
    sh(&project, "make -q");
    let before = Snapshot::of(&project);
    mount.umount();
    let mount = vault.mount();
    before.assert_kept_in(&Snapshot::of(&mount.join("project")), AccessTimes::Ignored);
    mount.umount();
}
