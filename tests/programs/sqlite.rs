//! SQLite under load: several processes, shared memory (WAL), POSIX locks, hot journals.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::common::{TempDir, Vault, run};
use crate::support::{command, installed, read};

const WRITERS: usize = 4;
const ROWS: usize = 250;

fn sqlite(database: &Path, statement: &str) -> String {
    run(command("sqlite3")
        .arg("-bail")
        .arg("-cmd")
        .arg(".timeout 60000")
        .arg(database)
        .arg(statement))
    .ok()
}

/// One transaction a row; each is acknowledged by a line of output.
fn start_writer(database: &Path, writer: usize, acknowledged: File) -> Child {
    let mut child = command("sqlite3")
        .args(["-batch", "-bail"])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(acknowledged)
        .spawn()
        .expect("sqlite3 is installed");
    let mut script = ".timeout 60000\nPRAGMA synchronous=FULL;\n".to_owned();
    for n in 0..ROWS {
        let id = writer * ROWS + n;
        let fill = (id * 37) % 6000;
        script +=
            &format!("INSERT INTO scan VALUES({id}, {writer}, randomblob({fill}));\n.print {id}\n");
        if n % 50 == 49 {
            script += &format!(
                "BEGIN IMMEDIATE; UPDATE scan SET image = randomblob(900) WHERE id = {id}; COMMIT;\n"
            );
        }
    }
    let mut input = child.stdin.take().expect("piped");
    std::thread::spawn(move || input.write_all(script.as_bytes()));
    child
}

fn keeps_every_row(mode: &str) {
    if !installed("sqlite3", &["sqlite3"]) {
        return;
    }
    let outside = TempDir::new();
    let vault = Vault::new();
    let mount = vault.mount();
    let database = mount.join("scans.db");
    assert_eq!(
        sqlite(&database, &format!("PRAGMA journal_mode={mode};")).trim(),
        mode
    );
    sqlite(
        &database,
        "CREATE TABLE scan(id INTEGER PRIMARY KEY, writer INTEGER, image BLOB); CREATE INDEX w ON scan(writer, id);",
    );
    let logs: Vec<_> = (0..WRITERS)
        .map(|n| outside.join(format!("acknowledged {n}")))
        .collect();
    let writers: Vec<_> = logs
        .iter()
        .enumerate()
        .map(|(n, log)| start_writer(&database, n, File::create(log).expect("writable")))
        .collect();
    for mut writer in writers {
        assert!(
            writer.wait().expect("it was started here").success(),
            "a writer has failed"
        );
    }
    let content = "SELECT id, writer, hex(image) FROM scan ORDER BY id;";
    let before = sqlite(&database, content);
    assert_eq!(sqlite(&database, "PRAGMA integrity_check;"), "ok\n");
    mount.umount();

    let mount = vault.mount();
    let database = mount.join("scans.db");
    assert_eq!(sqlite(&database, "PRAGMA integrity_check;"), "ok\n");
    assert!(
        sqlite(&database, content) == before,
        "the rows are not what they were"
    );
    let ids = sqlite(&database, "SELECT id FROM scan;");
    let stored: std::collections::HashSet<&str> = ids.lines().collect();
    for log in logs {
        let log = String::from_utf8(read(log)).expect("numbers");
        let acknowledged: Vec<&str> = log.lines().collect();
        assert_eq!(acknowledged.len(), ROWS);
        assert!(
            acknowledged.iter().all(|id| stored.contains(id)),
            "an acknowledged row is lost"
        );
    }
    sqlite(&database, "DELETE FROM scan WHERE id % 3; VACUUM;");
    assert_eq!(sqlite(&database, "PRAGMA integrity_check;"), "ok\n");
    mount.umount();
}

#[test]
fn sqlite_with_a_rollback_journal_keeps_every_acknowledged_row() {
    keeps_every_row("delete");
}

#[test]
fn sqlite_with_a_write_ahead_log_keeps_every_acknowledged_row() {
    keeps_every_row("wal");
}

#[test]
fn a_killed_sqlite_writer_leaves_a_database_that_recovers() {
    if !installed("sqlite3", &["sqlite3"]) {
        return;
    }
    for mode in ["wal", "delete"] {
        let outside = TempDir::new();
        let vault = Vault::new();
        let mount = vault.mount();
        let database = mount.join("scans.db");
        sqlite(&database, &format!("PRAGMA journal_mode={mode};"));
        sqlite(
            &database,
            "CREATE TABLE scan(id INTEGER PRIMARY KEY, writer INTEGER, image BLOB);",
        );
        let log = outside.join("acknowledged");
        let mut writer = start_writer(&database, 0, File::create(&log).expect("writable"));
        crate::common::wait_until("some rows are written", || read(&log).len() > 200);
        writer.kill().expect("it was started here");
        writer.wait().expect("it was started here");
        mount.umount();

        let mount = vault.mount();
        let database = mount.join("scans.db");
        assert_eq!(sqlite(&database, "PRAGMA integrity_check;"), "ok\n");
        let ids = sqlite(&database, "SELECT id FROM scan;");
        for id in String::from_utf8(read(&log)).expect("numbers").lines() {
            assert!(
                ids.lines().any(|stored| stored == id),
                "row {id} is lost ({mode})"
            );
        }
        mount.umount();
    }
}
