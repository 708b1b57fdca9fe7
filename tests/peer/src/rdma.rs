//! The queue pair.

use std::net::Ipv6Addr;

use ibverbs::{
    CompletionQueue, Context, PreparedQueuePair, ProtectionDomain, QueuePair, QueuePairEndpoint, ibv_qp_type,
};
use serde_json::{Value, json};

use crate::Result;

pub const READS_IN_FLIGHT: u8 = 16;
/// 0.27 s for an acknowledgement: emulated processors are slow.
const ACK_TIMEOUT: u8 = 16;

pub fn open(name: &str) -> Result<Context> {
    let devices = ibverbs::devices()?;
    let device = devices.iter().find(|device| device.name().is_some_and(|found| found.to_bytes() == name.as_bytes()));
    Ok(device.ok_or_else(|| format!("there is no device {name}"))?.open()?)
}

/// The last address of the table: behind those that the kernel makes up come those that the network device was given.
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
            // SAFETY: every bit pattern of the union is 16 bytes.
            json!({"gid": Ipv6Addr::from(unsafe { raw.raw }).to_string()})
        }
        None => json!({"lid": own.lid}),
    }
}

pub fn connect<'r>(prepared: PreparedQueuePair<'r>, peer: &Value) -> Result<QueuePair<'r>> {
    let pair = &peer["queue_pairs"][0];
    // The library expects packets from number 0 on.
    if pair["first_packet"] != 0 {
        return Err("the peer does not begin with packet 0".into());
    }
    let number = pair["number"].as_u64().ok_or("the peer has no queue pair")?;
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
