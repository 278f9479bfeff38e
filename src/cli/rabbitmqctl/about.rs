//! What each command does, in a line.

/// The commands, each with its line.
const LINES: &[(&str, &str)] = &[
    ("add_user", "Adds a user, without permissions at first; reads the password if none is given"),
    ("delete_user", "Deletes a user and its permissions"),
    ("change_password", "Gives a user another password"),
    ("clear_password", "Takes a user's password away: no password logs in then"),
    ("set_user_tags", "Gives a user these tags and no others"),
    ("authenticate_user", "Says whether a user can log in with a password"),
    ("set_permissions", "Says what a user may configure, write and read in a vhost, by patterns"),
    ("clear_permissions", "Takes a user's permissions in a vhost away"),
    ("set_topic_permissions", "Says which routing keys a user may publish and bind with at an exchange"),
    ("clear_topic_permissions", "Takes these rules away, of one exchange or all"),
    ("set_user_limits", "Sets how many connections and channels a user may open, as JSON"),
    ("clear_user_limits", "Takes such a limit away, or all of them"),
    ("add_vhost", "Adds a vhost"),
    ("trace_on", "Has copies of all messages of a vhost sent to its exchange amq.rabbitmq.trace"),
    ("trace_off", "Ends that"),
    ("delete_vhost", "Deletes a vhost and all that is in it"),
    ("set_vhost_limits", "Sets how many connections and queues a vhost may have, as JSON"),
    ("clear_vhost_limits", "Takes the limits of a vhost away"),
    (
        "set_policy",
        "Sets a policy for the queues and exchanges whose names match a pattern; its definition is JSON",
    ),
    ("clear_policy", "Deletes a policy"),
    ("set_operator_policy", "Sets an operator policy, which bounds what other policies may set"),
    ("clear_operator_policy", "Deletes an operator policy"),
    ("set_parameter", "Sets a runtime parameter, whose value is JSON"),
    ("clear_parameter", "Deletes a runtime parameter"),
    ("set_global_parameter", "Sets a global runtime parameter, whose value is JSON"),
    ("clear_global_parameter", "Deletes a global runtime parameter"),
    ("set_cluster_name", "Gives the cluster a name"),
    ("delete_queue", "Deletes a queue"),
    ("purge_queue", "Drops the ready messages of a queue"),
    ("close_connection", "Closes a connection, which list_connections shows with the column pid"),
    ("close_all_connections", "Closes all connections, or those of a vhost"),
    ("close_all_user_connections", "Closes all connections of a user"),
    ("await_startup", "Waits until the broker answers"),
    ("ping", "Says whether the broker answers; needs no login"),
    ("status", "Says what the broker is, what it holds and what is wrong"),
    ("version", "Says which version of RabbitMQ the broker speaks as"),
    ("cluster_status", "Says what nodes there are, of which there is one"),
    (
        "set_vm_memory_high_watermark",
        "Says how much memory the broker may take before publishers are blocked",
    ),
    ("set_disk_free_limit", "Says how much of the disk has to stay free, or publishers are blocked"),
    ("set_log_level", "Says from which level on lines are logged"),
    ("enable_feature_flag", "Enables a feature flag, or all: they are enabled already"),
    ("list_unresponsive_queues", "Asks every queue of a vhost, and lists those that do not answer"),
    ("node_health_check", "Does nothing any more: see check_running and the other checks"),
    ("environment", "Says what the broker is set to, as far as its management API tells"),
    ("wait", "Waits until the broker answers that has its process id in a file, or that has it"),
    ("export_definitions", "Writes all definitions to a file, or with - to standard output"),
    ("import_definitions", "Takes definitions from a file, or from standard input"),
    ("check_running", "Ends with 0 if clients are served; needs no login"),
    ("check_port_connectivity", "Connects to every port that the broker listens on"),
    ("check_alarms", "Ends with 0 if no alarm is in effect"),
    ("check_local_alarms", "Ends with 0 if no alarm is in effect"),
    ("alarms", "Lists the alarms that are in effect"),
    ("check_virtual_hosts", "Ends with 0 if all vhosts are up"),
    ("check_port_listener", "Ends with 0 if the broker listens on a port"),
    ("check_protocol_listener", "Ends with 0 if the broker speaks a protocol somewhere"),
    ("listeners", "Lists what the broker listens on"),
    ("is_running", "Says whether clients are served"),
    ("is_booting", "Says whether the broker is still starting"),
    ("server_version", "Says which version of RabbitMQ the broker speaks as"),
    (
        "check_certificate_expiration",
        "Ends with 0 if no certificate ends within that number of days, weeks, months or years",
    ),
    ("check_if_node_is_quorum_critical", "Says that there is one node, whose quorum queues have no other"),
    ("check_if_node_is_mirror_sync_critical", "Does nothing: there are no mirrored queues"),
    ("log_location", "Says where the log is"),
    ("list", "Lists the plugins of RabbitMQ whose work the broker does"),
    ("is_enabled", "Ends with 0 if the broker does the work of these plugins"),
    ("directories", "Says where plugins lie, which is nowhere"),
    ("enable", "Says that plugins are enabled, if the broker does their work"),
    ("disable", "Says that plugins are disabled, if the broker does not do their work"),
    ("list_queues", "Lists the queues of a vhost, with the columns that are named"),
    ("list_exchanges", "Lists the exchanges of a vhost"),
    ("list_bindings", "Lists the bindings of a vhost"),
    ("list_connections", "Lists the open connections"),
    ("list_stomp_connections", "Lists the open connections that speak STOMP"),
    ("list_channels", "Lists the open channels"),
    ("list_stream_connections", "Lists the open connections that speak the stream protocol"),
    ("list_stream_consumers", "Lists the consumers of the stream protocol in a vhost"),
    ("list_stream_publishers", "Lists the publishers of the stream protocol in a vhost"),
    (
        "list_stream_tracking",
        "Lists what a stream remembers: offsets of consumers, publishing ids of publishers",
    ),
    ("reset_offset", "Sets where the consumers of a name go on in a stream to its beginning"),
    ("list_consumers", "Lists the consumers in a vhost"),
    ("list_vhosts", "Lists the vhosts"),
    ("list_users", "Lists the users with their tags"),
    ("list_permissions", "Lists what users may do in a vhost"),
    ("list_user_permissions", "Lists what a user may do in each vhost"),
    ("list_topic_permissions", "Lists which routing keys users may use in a vhost"),
    ("list_user_topic_permissions", "Lists which routing keys a user may use in each vhost"),
    ("list_policies", "Lists the policies of a vhost"),
    ("list_operator_policies", "Lists the operator policies of a vhost"),
    ("list_parameters", "Lists the runtime parameters of a vhost"),
    ("list_global_parameters", "Lists the global runtime parameters"),
    ("list_user_limits", "Lists the limits of users"),
    ("list_vhost_limits", "Lists the limits of vhosts"),
    ("list_feature_flags", "Lists the feature flags, all of which are enabled"),
];

/// The line of a command; empty for one that there is not.
pub(super) fn about(command: &str) -> &'static str {
    LINES.iter().find(|(name, _)| *name == command).map_or("", |(_, line)| line)
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::about;

    #[test]
    fn every_command_has_its_line() {
        for tool in [Tool::Ctl, Tool::Diagnostics, Tool::Plugins] {
            for command in tool.commands() {
                assert!(!about(command.name).is_empty(), "{}", command.name);
            }
        }
    }
}
