//! Plans, runs, results and the command line of `peerpath`.
