//! Passes arbitrary bytes to the parser of lspci output, and predicts the paths between some of the functions.
#![no_main]

use peerpath_paths::{Inventory, Request, Tree};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let Ok(tree) = Tree::from_lspci(text) else { return };
    let inventory = Inventory::read(&tree);
    let predictor = inventory.predictor(Request::default());
    let functions = inventory.topology.functions();
    for (from, to) in functions.iter().zip(functions.iter().rev()).take(64) {
        let _ = predictor.explain(from.bdf, to.bdf);
    }
});
