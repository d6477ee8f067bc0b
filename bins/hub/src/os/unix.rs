use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileTypeExt},
};

/// Tells whether standard input is a pipe or a file: something was meant to be read.
pub(crate) fn is_piped() -> bool {
    let Ok(handle) = io::stdin().as_fd().try_clone_to_owned() else { return false };
    let kind = File::from(handle).metadata().map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_file() || kind.is_fifo())
}
