//! Lists the BARs of a PCI function, or exports a source.
//!
//! ```text
//! probe 0000:03:00.0                               list the BARs, and which of them can be exported
//! probe 0000:03:00.0:2@0x0+0x2000,0x4000+0x2000    export the ranges and print the first bytes of each
//! probe 0000:03:00.0:2 cdev                        use this VFIO interface (auto, group, cdev)
//! ```

use std::env::args;
use std::process::ExitCode;

use peerpath_exporter::vfio::{NotExportable, bars};
use peerpath_exporter::{Error, OpenOptions, Source, VfioInterface, format_bytes};
use peerpath_paths::{Bdf, Explained, Tree};

fn main() -> ExitCode {
    let Some(name) = args().nth(1) else {
        eprintln!("usage: probe BDF | SOURCE [INTERFACE]");
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
    for bar in bars(&Tree::live(), bdf)? {
        let verdict = NotExportable::find(&bar).map_or("can be exported".to_owned(), |problem| problem.to_string());
        println!("BAR {}  {:>6}  {:<14}  {verdict}", bar.index, format_bytes(bar.size_bytes), bar.kind);
    }
    Ok(())
}

fn export(name: &str) -> Result<(), Error> {
    let source: Source = name.parse()?;
    let vfio: VfioInterface = args().nth(2).as_deref().unwrap_or("auto").parse()?;
    let exporter = source.open(&OpenOptions { vfio, ..OpenOptions::default() })?;
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
