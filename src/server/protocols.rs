//! What clients may speak to the broker, with the settings of each protocol.

use super::amqp_settings;
use super::listeners::Protocols;
use crate::amqp::Amqp;
use crate::broker::Broker;
use crate::config::Config;
use crate::net::{Subprotocol, WebSocket};
use crate::protocol::Protocol;
use crate::stomp::{FrameLimits, Stomp, StompSettings};
use crate::stream_protocol::{StreamProtocol, StreamSettings};
use std::sync::Arc;

/// What clients may speak to the broker.
pub(super) fn protocols(config: &Config, broker: &Arc<Broker>) -> Protocols {
    let amqp: Arc<dyn Protocol> =
        Arc::new(Amqp { broker: broker.clone(), settings: Arc::new(amqp_settings(config)) });
    let stomp: Arc<dyn Protocol> =
        Arc::new(Stomp { broker: broker.clone(), settings: Arc::new(stomp_settings(config)) });
    let websocket = WebSocket {
        node_name: config.node_name.clone(),
        hosts: config.access.http_hosts.clone(),
        origins: config.websocket.origins.clone(),
        protocols: vec![
            Subprotocol {
                protocol: amqp.clone(),
                names: &["amqp", "AMQPWSB10", "binary"],
                first_bytes: b"A",
                is_text: false,
            },
            Subprotocol {
                protocol: stomp.clone(),
                names: &["v12.stomp", "v11.stomp", "v10.stomp", "stomp"],
                // CONNECT or STOMP, or a heart-beat before it.
                first_bytes: b"CS\n",
                is_text: true,
            },
        ],
    };
    let stream_protocol = |advertised_port| -> Arc<dyn Protocol> {
        let settings = StreamSettings { advertised_port, ..stream_settings(config) };
        Arc::new(StreamProtocol { broker: broker.clone(), settings: Arc::new(settings) })
    };
    Protocols {
        amqp,
        stomp,
        stream: stream_protocol(config.stream.advertised_port),
        stream_tls: stream_protocol(config.stream.advertised_tls_port),
        websocket: Arc::new(websocket),
    }
}

fn stream_settings(config: &Config) -> StreamSettings {
    let (limits, stream, server) = (&config.limits, &config.stream, &config.server);
    StreamSettings {
        product: server.product.clone(),
        version: server.version.clone(),
        cluster_name: server.cluster_name.clone(),
        advertised_host: stream.advertised_host.clone(),
        frame_max: stream.frame_max,
        message_bytes_max: usize::try_from(limits.message_size_max_bytes).unwrap_or(usize::MAX),
        initial_frame_max: limits.initial_frame_max_bytes as usize,
        heartbeat_s: stream.heartbeat,
        login_timeout_ms: limits.handshake_timeout_ms,
        unpacked_bytes_max: limits.stream_sub_batches_max_bytes as usize,
        unconfirmed_max: stream.initial_credits as usize,
        transmit_bytes: limits.transmit_buffer_bytes,
        ..StreamSettings::default()
    }
}

fn stomp_settings(config: &Config) -> StompSettings {
    let (limits, stomp) = (&config.limits, &config.stomp);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    StompSettings {
        server: format!("{}/{}", config.server.product, config.server.version),
        hide_server_info: stomp.hide_server_info,
        default_login: stomp.default_user.clone().zip(stomp.default_pass.clone()),
        implicit_connect: stomp.implicit_connect,
        default_vhost: stomp.default_vhost.clone(),
        default_topic_exchange: stomp.default_topic_exchange.clone(),
        default_nack_requeue: stomp.default_nack_requeue,
        trailing_lf: stomp.trailing_lf,
        frame: FrameLimits {
            headers_max: limits.stomp_headers_max as usize,
            header_bytes_max: limits.stomp_header_max_bytes,
            head_bytes_max: limits.stomp_head_max_bytes,
            body_bytes_max: bytes(limits.message_size_max_bytes),
            login_bytes_max: limits.initial_frame_max_bytes as usize,
        },
        login_timeout_ms: limits.handshake_timeout_ms,
        transmit_bytes: limits.transmit_buffer_bytes,
        subscriptions_max: limits.stomp_subscriptions_max as usize,
        transactions_max: limits.stomp_transactions_max as usize,
        tx_messages_max: limits.tx_messages_max as usize,
        tx_bytes_max: bytes(limits.tx_bytes_max),
    }
}
