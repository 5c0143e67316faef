//! The program: everything is in the library.

fn main() -> wardfs::cli::exit::Exit {
    wardfs::cli::main()
}
