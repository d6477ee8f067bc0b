//! The rules of the whole workspace, as tests.
#![cfg(test)]

mod house;
