//! A Samba server that exports a mounted vault.

use std::fs;
use std::path::Path;

use crate::common::{TempDir, Vault, run};
use crate::support::{Server, installed, is_root, mkdir, noise, sh, write};

const PORT: &str = "1445";

fn configuration(state: &Path, share: &Path) -> String {
    let state = state.display();
    let directories: String = ["lock", "state", "cache", "pid", "private"]
        .map(|kind| match kind {
            "private" => format!("private dir = {state}/private\n"),
            kind => format!("{kind} directory = {state}\n"),
        })
        .concat();
    format!(
        "[global]\n{directories}ncalrpc dir = {state}/ncalrpc\nsmb ports = {PORT}\ninterfaces = lo\n\
         bind interfaces only = yes\nserver role = standalone\nmap to guest = bad user\nguest account = root\n\
         load printers = no\nprintcap name = /dev/null\ndisable spoolss = yes\nlog level = 1\n\
         [vault]\npath = {}\nguest ok = yes\nread only = no\nstore dos attributes = yes\nea support = yes\n",
        share.display()
    )
}

fn make_tree(root: &Path) {
    for n in 0..30 {
        write(
            root.join(format!("Befund {n}.txt")),
            format!("Ärztlicher Befund {n}\n").repeat(n),
        );
    }
    let images = mkdir(root.join("images"));
    for n in 0..8 {
        write(
            images.join(format!("image{n}.dcm")),
            noise(n, 524_288 + n as usize),
        );
    }
    write(
        mkdir(images.join("below")).join("large.bin"),
        noise(7, 9_000_001),
    );
    write(root.join("empty"), "");
}

#[test]
fn a_tree_put_and_got_through_samba_is_the_same() {
    if !installed("samba", &["smbd"])
        || !installed("smbclient", &["smbclient"])
        || !is_root("run smbd in a network of its own")
    {
        return;
    }
    let outside = TempDir::new();
    let (tree, back, state) = (
        outside.dir("tree"),
        outside.dir("back"),
        outside.dir("state"),
    );
    mkdir(state.join("private"));
    make_tree(&tree);
    let vault = Vault::new();
    let mount = vault.mount_with(&["-o", "allow_other"]);
    let share = mount.join("share");
    fs::create_dir(&share).expect("writable");
    let config = outside.join("smb.conf");
    write(&config, configuration(&state, &share));
    let line = format!(
        "exec smbd --foreground --no-process-group --debug-stdout -s {}",
        config.display()
    );
    let server = Server::start(outside.path(), &line, &outside.join("smbd.log"));
    let options = format!("-s {} -N -p {PORT} //127.0.0.1/vault", config.display());
    let client = |directory: &Path, commands: &str| {
        let mut command = server.client("smbclient");
        run(command
            .args(options.split(' '))
            .arg("-c")
            .arg(commands)
            .current_dir(directory))
    };
    crate::common::wait_until("smbd answers", || client(&back, "ls").code == Some(0));
    client(&tree, "prompt; recurse; mput *").ok();
    client(
        &back,
        "rename images pictures; mkdir new; rename \"Befund 3.txt\" \"new\\Befund.txt\"",
    )
    .ok();
    client(&back, "prompt; recurse; mget *").ok();
    server.stop();
    fs::rename(tree.join("images"), tree.join("pictures")).expect("ours");
    fs::rename(
        tree.join("Befund 3.txt"),
        mkdir(tree.join("new")).join("Befund.txt"),
    )
    .expect("ours");
    let same = |copy: &Path| {
        assert_eq!(
            sh(outside.path(), &format!("diff -r tree {}", copy.display())),
            ""
        )
    };
    same(&back);
    mount.umount();
    let mount = vault.mount();
    same(&mount.join("share"));
    mount.umount();
}
