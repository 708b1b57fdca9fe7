//! Lists the BARs of a function and, asked to, exports one: the whole path from a name to a dma-buf, on one page.
//!
//! ```text
//! probe 0000:03:00.0                               its BARs, and which can be exported
//! probe 0000:03:00.0:2@0x0+0x2000,0x4000+0x2000    exports the ranges and shows the first bytes of each
//! probe 0000:03:00.0:2 cdev                        through that door (auto, group, cdev)
//! ```

use std::env::args;
use std::process::ExitCode;

use peerpath_exporter::{Door, Error, HostTree, NotExportable, OpenOptions, Source, bars, bind, format_bytes};
use peerpath_paths::{Bdf, Explained};

fn main() -> ExitCode {
    let Some(name) = args().nth(1) else {
        eprintln!("usage: probe BDF | SOURCE [DOOR]");
        return ExitCode::from(2);
    };
    let done = match name.parse::<Bdf>() {
        Ok(bdf) => list(bdf),
        Err(_) => export(&name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let explanation = error.explanation();
            eprintln!("{error}\n  why: {}\n  do:  {}", explanation.why, explanation.remedy);
            ExitCode::FAILURE
        }
    }
}

fn list(bdf: Bdf) -> Result<(), Error> {
    let host = HostTree::live();
    for bar in bars(&host, bdf)? {
        let verdict = NotExportable::find(&bar).map_or("can be exported".to_owned(), |problem| problem.to_string());
        println!("BAR {}  {:>6}  {:<14}  {verdict}", bar.index, format_bytes(bar.size_bytes), bar.kind);
    }
    for one in bind::uses(&host, bdf)? {
        println!("in use: {one}");
    }
    Ok(())
}

fn export(name: &str) -> Result<(), Error> {
    let source: Source = name.parse()?;
    let door: Door = args().nth(2).as_deref().unwrap_or("auto").parse()?;
    let exporter = source.open(&OpenOptions { door, ..OpenOptions::default() })?;
    let buffer = exporter.export(exporter.length_bytes())?;
    println!("{source}: {} as {:?}", format_bytes(buffer.length_bytes()), buffer.dma_buf());
    let mut offset = 0;
    for range in &buffer.origin().ranges {
        let mut bytes = [0; 16];
        match buffer.view().read(offset, &mut bytes) {
            Ok(()) => println!("  {range}: {bytes:02x?}"),
            Err(error) => println!("  {range}: {error}"),
        }
        offset += range.length_bytes;
    }
    Ok(())
}
