//! PostgreSQL with its data directory in the vault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::{TempDir, Vault, run};
use crate::support::{command, is_root};

/// Where Debian keeps the programs of the newest version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let found = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .max();
    if found.is_none() {
        eprintln!("skipped: no initdb in /usr/lib/postgresql; install the package postgresql");
    }
    found.filter(|_| is_root("run a server as the user postgres"))
}

/// A cluster, run by the user postgres, that listens on a socket in `sockets` and nowhere else. Stopped when dropped.
struct Cluster<'a> {
    programs: &'a Path,
    data: PathBuf,
    sockets: &'a Path,
}

impl Cluster<'_> {
    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(&mut self.command(program, arguments)).ok()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = command("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ]);
        command.arg(self.programs.join(program)).args(arguments);
        command
            .env("PGHOST", self.sockets)
            .env("PGDATA", &self.data)
            .env("PGUSER", "postgres")
            .env("PGDATABASE", "postgres");
        command.current_dir(self.sockets);
        command
    }

    fn start(&self) {
        let options = format!(
            "-c listen_addresses= -c unix_socket_directories={} -c shared_buffers=16MB",
            self.sockets.display()
        );
        let log = self.sockets.join("log");
        self.run(
            "pg_ctl",
            &[
                "-w",
                "-s",
                "-l",
                &log.display().to_string(),
                "-o",
                &options,
                "start",
            ],
        );
    }

    fn stop(&self) {
        self.run("pg_ctl", &["-w", "-s", "-m", "fast", "stop"]);
    }

    fn ask(&self, question: &str) -> String {
        self.run(
            "psql",
            &[
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                question,
            ],
        )
    }

    /// Money is only moved between accounts, tellers and branches, and each move has a row in the history.
    fn assert_balanced(&self) {
        let sums = self.ask(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), \
             (SELECT sum(bbalance) FROM pgbench_branches), (SELECT sum(delta) FROM pgbench_history)",
        );
        let sums: Vec<&str> = sums.trim().split('|').collect();
        assert!(
            sums.len() == 4 && sums.iter().all(|sum| *sum == sums[0]),
            "{sums:?}"
        );
    }

    /// All content as statements. Newer versions put a random word around them.
    fn dump(&self) -> String {
        let dump = self.run("pg_dump", &["--no-comments"]);
        dump.lines()
            .filter(|line| !line.starts_with('\\'))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// The indexes fit the tables, if the extension is there (postgresql-contrib).
    fn check_indexes(&self) {
        if self
            .ask("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
            .trim()
            == "1"
        {
            self.ask("CREATE EXTENSION IF NOT EXISTS amcheck");
            self.ask("SELECT bt_index_check(indexrelid, true) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam WHERE amname = 'btree' AND relpersistence = 'p'");
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if self.data.join("postmaster.pid").exists() {
            run(&mut self.command("pg_ctl", &["-w", "-s", "-m", "immediate", "stop"]));
        }
    }
}

#[test]
fn postgresql_keeps_its_data_through_load_crash_stop_and_remount() {
    let Some(programs) = programs() else { return };
    let sockets = TempDir::new();
    run(command("chown").arg("postgres").arg(sockets.path())).ok();
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let data = mount.join("data");
    fs::create_dir(&data).expect("writable");
    run(command("chown").arg("postgres:postgres").arg(&data)).ok();
    let cluster = Cluster {
        programs: &programs,
        data,
        sockets: sockets.path(),
    };
    cluster.run(
        "initdb",
        &["-A", "trust", "-k", "--no-locale", "-E", "UTF8"],
    );
    cluster.start();
    cluster.run("pgbench", &["-i", "-q", "-s", "3"]);
    cluster.run("pgbench", &["-c", "4", "-j", "2", "-t", "250", "-n"]);
    // Killed as by a crash of the server: its own recovery must find a good log.
    cluster.run("pg_ctl", &["-w", "-s", "-m", "immediate", "stop"]);
    cluster.start();
    cluster.assert_balanced();
    assert_eq!(
        cluster.ask("SELECT count(*) FROM pgbench_history").trim(),
        "1000"
    );
    cluster.check_indexes();
    let dump = cluster.dump();
    cluster.stop();
    cluster.run("pg_checksums", &["--check"]);
    drop(cluster);
    mount.umount();

    let mount = vault.mount_with(&["-o", "allow_other"]);
    let cluster = Cluster {
        programs: &programs,
        data: mount.join("data"),
        sockets: sockets.path(),
    };
    cluster.run("pg_checksums", &["--check"]);
    cluster.start();
    assert!(cluster.dump() == dump, "the database is not what it was");
    cluster.run("pgbench", &["-c", "2", "-t", "100", "-n"]);
    cluster.assert_balanced();
    cluster.stop();
    drop(cluster);
    mount.umount();
}
