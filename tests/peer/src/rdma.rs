//! Setup of the RC queue pair, with the crate `ibverbs`.

use std::net::Ipv6Addr;

use ibverbs::{
    CompletionQueue, Context, PreparedQueuePair, ProtectionDomain, QueuePair, QueuePairEndpoint, ibv_qp_type,
};
use serde_json::{Value, json};

use crate::Result;

pub const READS_IN_FLIGHT: u8 = 16;
/// Acknowledgement timeout, 4.096 us * 2^16 = 0.27 s: emulated CPUs are slow.
const ACK_TIMEOUT: u8 = 16;

pub fn open(name: &str) -> Result<Context> {
    let devices = ibverbs::devices()?;
    let device = devices.iter().find(|device| device.name().is_some_and(|found| found.to_bytes() == name.as_bytes()));
    Ok(device.ok_or_else(|| format!("cannot open {name}: no RDMA device has this name"))?.open()?)
}

/// Returns the index of the last GID. The kernel's automatic GIDs come first, those of configured IP addresses last.
fn gid_index(context: &Context) -> Option<u32> {
    context.gid_table().last().map(|entry| entry.gid_index)
}

pub fn prepare<'r>(
    context: &Context,
    domain: &'r ProtectionDomain<'_>,
    completions: &'r CompletionQueue<'_>,
) -> Result<PreparedQueuePair<'r>> {
    let mut builder = domain.create_qp(completions, completions, ibv_qp_type::IBV_QPT_RC);
    builder.allow_remote_rw().set_max_dest_rd_atomic(READS_IN_FLIGHT).set_timeout(ACK_TIMEOUT);
    if let Some(index) = gid_index(context) {
        builder.set_gid_index(index);
    }
    Ok(builder.build()?)
}

pub fn address(own: &QueuePairEndpoint) -> Value {
    match own.gid {
        Some(mut gid) => {
            let raw = gid.as_mut();
            // SAFETY: the union is 16 bytes, and every bit pattern is a valid `raw`.
            json!({"gid": Ipv6Addr::from(unsafe { raw.raw }).to_string()})
        }
        None => json!({"lid": own.lid}),
    }
}

pub fn connect<'r>(prepared: PreparedQueuePair<'r>, peer: &Value) -> Result<QueuePair<'r>> {
    let pair = &peer["queue_pairs"][0];
    // The library expects an initial PSN of 0.
    if pair["first_packet"] != 0 {
        return Err("cannot connect: the client's initial PSN is not 0".into());
    }
    let number = pair["number"].as_u64().ok_or("cannot connect: the client has no queue pair")?;
    let gid = match peer["address"]["gid"].as_str() {
        Some(text) => {
            let mut gid = ibverbs::Gid::default();
            gid.as_mut().raw = text.parse::<Ipv6Addr>()?.octets();
            Some(gid)
        }
        None => None,
    };
    let lid = peer["address"]["lid"].as_u64().unwrap_or(0);
    Ok(prepared.handshake(QueuePairEndpoint { num: u32::try_from(number)?, lid: u16::try_from(lid)?, gid })?)
}
