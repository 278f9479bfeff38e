// amqp091-go.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var url = os.Getenv("AMQP_URL")

const patience = 10 * time.Second

// must ends the check with an error.
func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect[T comparable](got, wanted T) {
	if got != wanted {
		panic(fmt.Sprintf("got %v and not %v", got, wanted))
	}
}

// refused says that an operation ended in an AMQP exception with this code.
func refused(err error, code int) {
	exception, ok := err.(*amqp.Error)
	if !ok || exception.Code != code {
		panic(fmt.Sprintf("not refused with %d: %v", code, err))
	}
}

func next[T any](channel <-chan T) T {
	select {
	case value, open := <-channel:
		if !open {
			panic("closed while something was expected")
		}
		return value
	case <-time.After(patience):
		panic("nothing came")
	}
}

// name is one that no other check and no other run uses.
func name(word string) string {
	unique := make([]byte, 6)
	must(rand.Read(unique))
	return fmt.Sprintf("%s-%x", word, unique)
}

func opened() (*amqp.Connection, *amqp.Channel) {
	connection := must(amqp.Dial(url))
	return connection, must(connection.Channel())
}

func declared(channel *amqp.Channel, queue string, arguments amqp.Table) string {
	return must(channel.QueueDeclare(queue, false, false, true, false, arguments)).Name
}

func publish(channel *amqp.Channel, queue, body string, properties amqp.Publishing) {
	properties.Body = []byte(body)
	check(channel.PublishWithContext(context.Background(), "", queue, false, false, properties))
}

func consume(channel *amqp.Channel, queue string, autoAck bool) <-chan amqp.Delivery {
	return must(channel.Consume(queue, "", autoAck, false, false, false, nil))
}

func get(channel *amqp.Channel, queue string) string {
	message, ok, err := channel.Get(queue, true)
	check(err)
	if !ok {
		return "nothing"
	}
	return string(message.Body)
}

func ready(channel *amqp.Channel, queue string) int {
	return must(channel.QueueDeclarePassive(queue, false, false, true, false, nil)).Messages
}

var checks = []struct {
	name string
	run  func(connection *amqp.Connection, channel *amqp.Channel)
}{
	{"login", func(_ *amqp.Connection, channel *amqp.Channel) {
		declared(channel, "", nil)
		wrong := must(amqp.ParseURI(url))
		wrong.Password = "wrong"
		_, err := amqp.Dial(wrong.String())
		refused(err, amqp.AccessRefused)
	}},
	{"topology", func(_ *amqp.Connection, channel *amqp.Channel) {
		exchange, queue := name("topic"), declared(channel, "", nil)
		check(channel.ExchangeDeclare(exchange, "topic", false, true, false, false, nil))
		check(channel.QueueBind(queue, "orders.*", exchange, false, nil))
		for key, body := range map[string]string{"orders.new": "new", "bills.new": "other"} {
			message := amqp.Publishing{Body: []byte(body)}
			check(channel.PublishWithContext(context.Background(), exchange, key, false, false, message))
		}
		expect(get(channel, queue), "new")
		expect(get(channel, queue), "nothing")
	}},
	{"confirms", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", nil)
		check(channel.Confirm(false))
		confirmations := channel.NotifyPublish(make(chan amqp.Confirmation, 100))
		for number := 0; number < 100; number++ {
			publish(channel, queue, "x", amqp.Publishing{DeliveryMode: amqp.Persistent})
		}
		for number := uint64(1); number <= 100; number++ {
			expect(next(confirmations), amqp.Confirmation{DeliveryTag: number, Ack: true})
		}
		expect(ready(channel, queue), 100)
	}},
	{"returns", func(_ *amqp.Connection, channel *amqp.Channel) {
		returns, message := channel.NotifyReturn(make(chan amqp.Return, 1)), amqp.Publishing{Body: []byte("lost")}
		check(channel.PublishWithContext(context.Background(), "", name("nowhere"), true, false, message))
		returned := next(returns)
		expect(returned.ReplyCode, 312)
		expect(returned.ReplyText, "NO_ROUTE")
	}},
	{"prefetch", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", nil)
		for _, body := range "12345" {
			publish(channel, queue, string(body), amqp.Publishing{})
		}
		check(channel.Qos(2, 0, false))
		messages := consume(channel, queue, false)
		first, second := next(messages), next(messages)
		expect(ready(channel, queue), 3)
		check(first.Ack(false))
		expect(string(next(messages).Body)+string(second.Body), "32")
		expect(ready(channel, queue), 2)
	}},
	{"requeue", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", nil)
		publish(channel, queue, "again", amqp.Publishing{})
		messages := consume(channel, queue, false)
		message := next(messages)
		expect(message.Redelivered, false)
		check(message.Nack(false, true))
		message = next(messages)
		expect(message.Redelivered, true)
		check(message.Reject(false))
		expect(ready(channel, queue), 0)
	}},
	{"retry", func(_ *amqp.Connection, channel *amqp.Channel) {
		work, later := name("work"), name("later")
		declared(channel, work, amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": later})
		declared(channel, later, amqp.Table{
			"x-message-ttl": int32(50), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
		publish(channel, work, "task", amqp.Publishing{})
		messages := consume(channel, work, false)
		first := next(messages)
		check(first.Reject(false))
		again := next(messages)
		var deaths []string
		for _, row := range again.Headers["x-death"].([]interface{}) {
			row := row.(amqp.Table)
			deaths = append(deaths, fmt.Sprint(row["queue"], " ", row["reason"], " ", row["count"]))
		}
		expect(strings.Join(deaths, ", "), fmt.Sprintf("%s expired 1, %s rejected 1", later, work))
		check(again.Ack(false))
	}},
	{"rpc", func(_ *amqp.Connection, channel *amqp.Channel) {
		requests, replies := declared(channel, "", nil), consume(channel, "amq.rabbitmq.reply-to", true)
		publish(channel, requests, "12", amqp.Publishing{ReplyTo: "amq.rabbitmq.reply-to", CorrelationId: "1"})
		request, _, err := channel.Get(requests, true)
		check(err)
		expect(strings.HasPrefix(request.ReplyTo, "amq.rabbitmq.reply-to."), true)
		publish(channel, request.ReplyTo, "144", amqp.Publishing{CorrelationId: request.CorrelationId})
		reply := next(replies)
		expect(string(reply.Body)+" "+reply.CorrelationId, "144 1")
	}},
	{"priority", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", amqp.Table{"x-max-priority": int32(5)})
		for _, number := range []uint8{1, 5, 3} {
			publish(channel, queue, fmt.Sprint(number), amqp.Publishing{Priority: number})
		}
		expect(get(channel, queue)+get(channel, queue)+get(channel, queue), "531")
	}},
	{"transaction", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", nil)
		check(channel.Tx())
		publish(channel, queue, "never", amqp.Publishing{})
		check(channel.TxRollback())
		publish(channel, queue, "kept", amqp.Publishing{})
		check(channel.TxCommit())
		expect(get(channel, queue), "kept")
		expect(get(channel, queue), "nothing")
	}},
	{"large", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue, body := declared(channel, "", nil), make([]byte, 8<<20)
		must(rand.Read(body))
		publish(channel, queue, string(body), amqp.Publishing{})
		expect(bytes.Equal([]byte(get(channel, queue)), body), true)
	}},
	{"order", func(_ *amqp.Connection, channel *amqp.Channel) {
		queue := declared(channel, "", nil)
		check(channel.Qos(100, 0, false))
		messages := consume(channel, queue, false)
		for number := 0; number < 2000; number++ {
			publish(channel, queue, fmt.Sprint(number), amqp.Publishing{})
		}
		for number := 0; number < 2000; number++ {
			message := next(messages)
			expect(string(message.Body), fmt.Sprint(number))
			check(message.Ack(false))
		}
	}},
	{"heartbeat", func(*amqp.Connection, *amqp.Channel) {
		connection := must(amqp.DialConfig(url, amqp.Config{Heartbeat: time.Second}))
		defer connection.Close()
		expect(connection.Config.Heartbeat, time.Second)
		time.Sleep(3 * time.Second)
		declared(must(connection.Channel()), "", nil)
	}},
	{"reconnect", func(connection *amqp.Connection, channel *amqp.Channel) {
		queue, closed := name("robust"), connection.NotifyClose(make(chan *amqp.Error, 1))
		must(channel.QueueDeclare(queue, false, true, false, false, nil))
		message := amqp.Publishing{Body: []byte("x")}
		check(channel.PublishWithContext(context.Background(), "", queue, false, true, message))
		refused(next(closed), amqp.NotImplemented)
		connection, channel = opened()
		defer connection.Close()
		publish(channel, queue, "after", amqp.Publishing{})
		messages := consume(channel, queue, true)
		expect(string(next(messages).Body), "after")
	}},
	{"exclusive", func(_ *amqp.Connection, channel *amqp.Channel) {
		connection, other := opened()
		defer connection.Close()
		_, err := other.QueueDeclarePassive(declared(channel, "", nil), false, false, false, false, nil)
		refused(err, amqp.ResourceLocked)
	}},
	{"missing", func(connection *amqp.Connection, channel *amqp.Channel) {
		_, err := channel.QueueDeclarePassive(name("missing"), false, false, false, false, nil)
		refused(err, amqp.NotFound)
		declared(must(connection.Channel()), "", nil)
	}},
	{"cancelled", func(_ *amqp.Connection, channel *amqp.Channel) {
		connection, other := opened()
		defer connection.Close()
		queue := must(channel.QueueDeclare(name("going"), false, false, false, false, nil)).Name
		cancelled := channel.NotifyCancel(make(chan string, 1))
		must(channel.Consume(queue, "watcher", false, false, false, false, nil))
		must(other.QueueDelete(queue, false, false, false))
		expect(next(cancelled), "watcher")
	}},
	{"blocked", func(connection *amqp.Connection, channel *amqp.Channel) {
		blockings, queue := connection.NotifyBlocked(make(chan amqp.Blocking, 1)), declared(channel, "", nil)
		publish(channel, queue, "goes", amqp.Publishing{})
		expect(get(channel, queue), "goes")
		expect(len(blockings), 0)
	}},
}

func main() {
	for _, each := range checks {
		func() {
			defer func() {
				if failure := recover(); failure != nil {
					log.Println(each.name, failure)
					fmt.Printf("failed %s: %v\n", each.name, failure)
				} else {
					fmt.Println("ok", each.name)
				}
			}()
			connection, channel := opened()
			defer connection.Close()
			each.run(connection, channel)
		}()
	}
}
