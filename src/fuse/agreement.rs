//! What is agreed with the kernel when the session begins.

use fuser::{InitFlags, KernelConfig};

use crate::fuse::shell::Policy;

/// The largest READ and WRITE, and so the largest request.
pub const MAX_IO: u32 = 1 << 20;
/// Requests the kernel may have under way in the background: readahead and write-back.
const MAX_BACKGROUND: u16 = 64;

/// What the kernel is asked for, if it has it, each with its reason.
const WANTED: [InitFlags; 7] = [
    // Lookups and listings in one directory run in parallel.
    InitFlags::FUSE_PARALLEL_DIROPS,
    // `ls -l` without a request for each entry, where the kernel sees that pattern.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    // A link's target needs a decryption.
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_ASYNC_DIO,
    // No request for security.capability before each write; clearing the bits is then up to us.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    // Inodes are found by number as long as the kernel knows them: an NFS export works.
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// Asks for what the policy needs, and sets the sizes.
pub fn agree(policy: &Policy, config: &mut KernelConfig) {
    let mut wanted = WANTED.to_vec();
    if policy.writeback {
        wanted.push(InitFlags::FUSE_WRITEBACK_CACHE);
    }
    wanted.push(match policy.shared {
        true => InitFlags::FUSE_AUTO_INVAL_DATA,
        false => InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    });
    if policy.acl {
        wanted.extend([InitFlags::FUSE_POSIX_ACL, InitFlags::FUSE_DONT_MASK]);
    }
    for flag in wanted {
        if let Err(missing) = config.add_capabilities(flag) {
            log::info!("the kernel does not offer {missing:?}");
        }
    }
    // Both are within the limits of the binding.
    let _ = config.set_max_write(MAX_IO);
    let _ = config.set_max_background(MAX_BACKGROUND);
}
