//! The libraries, as other programs use them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Command;
use std::{fs, io};

use libtest_mimic::Failed;
use peerpath_exporter::{Error, vfio};

use crate::Case;
use crate::command::{loopback, run_command, run_program};
use crate::functions::{EXPORTER, driver, hold};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "the_libraries_write_through_a_nic_and_read_through_the_bar",
            scenarios: &["default", "bypass"],
            run: write_and_read,
        },
        Case {
            name: "the_exporter_neither_binds_nor_creates_state",
            scenarios: &["default"],
            run: leaves_the_host_unchanged,
        },
    ]
}

fn write_and_read() -> Result<(), Failed> {
    let _hold = hold(EXPORTER)?;
    run_program(&loopback(), &format!("{EXPORTER} 2 rxe0"))?.expect(0)?.prints("written and read").map(drop)
}

fn leaves_the_host_unchanged() -> Result<(), Failed> {
    if let Some(driver) = driver(EXPORTER) {
        return Err(format!("expected {EXPORTER} without a driver, found {driver}").into());
    }
    let before = run_directory()?;
    match vfio::Device::open(EXPORTER.parse()?) {
        Err(Error::NotVfioDriver { driver: None, .. }) => {}
        opened => return Err(format!("expected NotVfioDriver: {opened:?}").into()),
    }
    // Runs in a separate process, because a test cannot change its own environment.
    let folder = tempfile::tempdir()?;
    let state = folder.path().join("state");
    let mut program = Command::new(loopback());
    let ended = run_command(program.args([EXPORTER, "2", "rxe0"]).env("PEERPATH_STATE_DIR", &state))?;
    ended.expect(1)?.prints("NotVfioDriver")?;
    if state.exists() {
        return Err(format!("{} was created", state.display()).into());
    }
    let after = run_directory()?;
    if after != before {
        return Err(format!("the entries of /run changed from {before:?} to {after:?}").into());
    }
    match driver(EXPORTER) {
        None => Ok(()),
        Some(driver) => Err(format!("{EXPORTER} was bound to {driver}").into()),
    }
}

fn run_directory() -> io::Result<BTreeSet<OsString>> {
    fs::read_dir("/run")?.map(|entry| Ok(entry?.file_name())).collect()
}
