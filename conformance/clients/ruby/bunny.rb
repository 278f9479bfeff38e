# Bunny.
require 'bunny'
require 'securerandom'
require 'timeout'

URL = ENV.fetch('AMQP_URL')
PATIENCE = 10

# A name that no other check and no other run uses.
def name(word)
  "#{word}-#{SecureRandom.hex(6)}"
end

def expect(got, wanted)
  raise "got #{got.inspect} and not #{wanted.inspect}" unless got == wanted
end

# A started session, which the block's end closes.
def opened(**options)
  session = Bunny.new(URL, log_level: Logger::FATAL, automatically_recover: false, **options).start
  yield session, session.create_channel
ensure
  session.close if session&.open?
end

def declared(channel, queue = '', **options)
  channel.queue(queue, exclusive: true, **options)
end

# The deliveries of a consumer as [delivery_info, properties, body].
def consume(queue, **options)
  inbox = Queue.new
  queue.subscribe(**options) { |*delivery| inbox << delivery }
  inbox
end

def take(inbox)
  Timeout.timeout(PATIENCE) { inbox.pop }
end

# What the block raises, which has to be of this class.
def refusal(error)
  yield
  raise 'it was not refused'
rescue error => e
  e.message
end

def login
  opened { |_, channel| declared(channel) }
  refusal(Bunny::AuthenticationFailureError) { opened(password: 'wrong') { |*| nil } }
end

def topology
  opened do |_, channel|
    exchange = channel.topic(name('topic'), auto_delete: true)
    queue = declared(channel).bind(exchange, routing_key: 'orders.*')
    exchange.publish('new', routing_key: 'orders.new')
    exchange.publish('other', routing_key: 'bills.new')
    expect(queue.pop.last, 'new')
    expect(queue.pop.last, nil)
  end
end

def confirms
  opened do |_, channel|
    queue = declared(channel)
    channel.confirm_select
    100.times { queue.publish('x', persistent: true) }
    expect(channel.wait_for_confirms, true)
    expect(queue.message_count, 100)
  end
end

def returns
  opened do |_, channel|
    returned = Queue.new
    exchange = channel.default_exchange
    exchange.on_return { |info, *| returned << [info.reply_code, info.reply_text] }
    exchange.publish('lost', routing_key: name('nowhere'), mandatory: true)
    expect(take(returned), [312, 'NO_ROUTE'])
  end
end

def prefetch
  opened do |_, channel|
    queue = declared(channel)
    %w[1 2 3 4 5].each { |body| queue.publish(body) }
    channel.prefetch(2)
    inbox = consume(queue, manual_ack: true)
    first, second = take(inbox), take(inbox)
    expect(queue.message_count, 3)
    channel.ack(first[0].delivery_tag)
    expect([second.last, take(inbox).last], %w[2 3])
    expect(queue.message_count, 2)
  end
end

def requeue
  opened do |_, channel|
    queue = declared(channel)
    queue.publish('again')
    inbox = consume(queue, manual_ack: true)
    info, = take(inbox)
    expect(info.redelivered?, false)
    channel.nack(info.delivery_tag, false, true)
    info, = take(inbox)
    expect(info.redelivered?, true)
    channel.reject(info.delivery_tag)
    expect(queue.message_count, 0)
  end
end

def retry_later
  opened do |_, channel|
    work, later = name('work'), name('later')
    queue = declared(channel, work, arguments: {
      'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => later })
    declared(channel, later, arguments: {
      'x-message-ttl' => 50, 'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => work })
    queue.publish('task')
    inbox = consume(queue, manual_ack: true)
    channel.reject(take(inbox)[0].delivery_tag)
    info, properties, = take(inbox)
    deaths = properties.headers['x-death'].map { |row| row.values_at('queue', 'reason', 'count') }
    expect(deaths, [[later, 'expired', 1], [work, 'rejected', 1]])
    channel.ack(info.delivery_tag)
  end
end

def rpc
  opened do |_, channel|
    requests, replies = declared(channel), Queue.new
    channel.basic_consume('amq.rabbitmq.reply-to', '', true) { |*delivery| replies << delivery }
    requests.publish('12', reply_to: 'amq.rabbitmq.reply-to', correlation_id: '1')
    _, properties, = requests.pop
    expect(properties.reply_to.start_with?('amq.rabbitmq.reply-to.'), true)
    channel.default_exchange.publish('144', routing_key: properties.reply_to, correlation_id: properties.correlation_id)
    _, properties, body = take(replies)
    expect([body, properties.correlation_id], %w[144 1])
  end
end

def priority
  opened do |_, channel|
    queue = declared(channel, arguments: { 'x-max-priority' => 5 })
    [1, 5, 3].each { |number| queue.publish(number.to_s, priority: number) }
    expect(Array.new(3) { queue.pop.last }, %w[5 3 1])
  end
end

def transaction
  opened do |_, channel|
    queue = declared(channel)
    channel.tx_select
    queue.publish('never')
    channel.tx_rollback
    queue.publish('kept')
    channel.tx_commit
    expect([queue.pop.last, queue.pop.last], ['kept', nil])
  end
end

def large
  opened do |_, channel|
    queue, body = declared(channel), SecureRandom.bytes(8 << 20)
    queue.publish(body)
    expect(queue.pop.last == body, true)
  end
end

def order
  opened do |_, channel|
    queue = declared(channel)
    channel.prefetch(100)
    inbox = consume(queue, manual_ack: true)
    2000.times { |number| queue.publish(number.to_s) }
    2000.times do |number|
      info, _, body = take(inbox)
      expect(body, number.to_s)
      channel.ack(info.delivery_tag)
    end
  end
end

def heartbeat
  opened(heartbeat: 1) do |session, channel|
    expect(session.heartbeat, 1)
    sleep 3
    declared(channel)
  end
end

def reconnect
  options = { automatically_recover: true, recover_from_connection_close: true, network_recovery_interval: 0.1 }
  opened(**options) do |session, channel|
    recovered, queue = Queue.new, channel.queue(name('robust'))
    inbox = consume(queue)
    session.after_recovery_completed { recovered << true }
    # Bunny itself sends nothing that a broker closes a connection for.
    session.send_frame(AMQ::Protocol::Channel::Open.encode(channel.id, ''))
    take(recovered)
    queue.publish('after')
    expect(take(inbox).last, 'after')
    queue.delete
  end
end

def exclusive
  opened do |_, channel|
    mine = declared(channel)
    opened { |_, other| refusal(Bunny::ResourceLocked) { other.queue(mine.name, passive: true) } }
  end
end

def missing
  opened do |session, channel|
    text = refusal(Bunny::NotFound) { channel.queue(name('missing'), passive: true) }
    expect(text.start_with?('NOT_FOUND - no queue'), true)
    declared(session.create_channel)
  end
end

def cancelled
  opened do |_, channel|
    told, queue = Queue.new, channel.queue(name('going'))
    queue.subscribe(on_cancellation: ->(*) { told << true }) { |*| nil }
    opened { |_, other| other.queue_delete(queue.name) }
    expect(take(told), true)
  end
end

def blocked
  opened do |session, channel|
    told, queue = Queue.new, declared(channel)
    session.on_blocked { told << true }
    session.on_unblocked { told << false }
    queue.publish('goes')
    expect([queue.pop.last, told.size], ['goes', 0])
  end
end

checks = %i[login topology confirms returns prefetch requeue retry_later rpc priority transaction large order heartbeat
            reconnect exclusive missing cancelled blocked]
$stdout.sync = true
checks.each do |check|
  word = check == :retry_later ? 'retry' : check
  send(check)
  puts "ok #{word}"
rescue StandardError => e
  warn e.full_message
  puts "failed #{word}: #{e.message.lines.first}"
end
