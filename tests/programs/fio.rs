//! fio with verification: every block says what it is and carries a checksum.

use crate::common::{Vault, run};
use crate::support::{command, installed};

/// Writes with fio, lets it verify, mounts again, and lets it verify once more.
fn verifies(options: &[&str]) {
    if !installed("fio", &["fio"]) {
        return;
    }
    let vault = Vault::new();
    let mount = vault.mount();
    let job = |verify_only: bool| {
        let mut fio = command("fio");
        fio.args([
            "--name=job",
            "--size=12M",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--randrepeat=1",
            "--thread",
        ]);
        fio.arg(format!("--directory={}", vault.mountpoint().display()))
            .args(options);
        fio.args(verify_only.then_some("--verify_only=1"));
        run(fio.current_dir(vault.dir().path())).ok()
    };
    job(false);
    mount.umount();
    let mount = vault.mount();
    job(true);
    mount.umount();
}

#[test]
fn random_writes_with_pwrite_verify() {
    verifies(&[
        "--rw=randwrite",
        "--bs=4k",
        "--ioengine=psync",
        "--numjobs=2",
    ]);
}

#[test]
fn unaligned_random_writes_of_mixed_sizes_verify() {
    verifies(&[
        "--rw=randwrite",
        "--bsrange=512-70000",
        "--bs_unaligned",
        "--ioengine=psync",
        "--norandommap",
        "--serialize_overlap=1",
        "--verify_interval=512",
        "--random_generator=lfsr",
    ]);
}

#[test]
fn direct_writes_with_libaio_verify() {
    verifies(&[
        "--rw=randwrite",
        "--bs=8k",
        "--ioengine=libaio",
        "--direct=1",
        "--iodepth=16",
    ]);
}

#[test]
fn buffered_writes_with_libaio_and_fsync_verify() {
    verifies(&[
        "--rw=randwrite",
        "--bs=16k",
        "--ioengine=libaio",
        "--direct=0",
        "--iodepth=8",
        "--fsync=32",
    ]);
}

#[test]
fn writes_through_shared_memory_verify() {
    verifies(&["--rw=randwrite", "--bs=4k", "--ioengine=mmap"]);
}

#[test]
fn a_direct_sequential_stream_verifies() {
    verifies(&["--rw=write", "--bs=1M", "--ioengine=psync", "--direct=1"]);
}
