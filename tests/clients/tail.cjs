// An EventSource that prints the id of each event of a tail, until it has seen so many.
const { EventSource } = require("eventsource");

let left = Number(process.argv[2]);
const tail = new EventSource(`${process.env.SEKALI_URL}/events?topic=t`);
tail.onmessage = (message) => {
  console.log(JSON.parse(message.data).event_id);
  left -= 1;
  if (left === 0) {
    tail.close();
    process.exit(0);
  }
};
