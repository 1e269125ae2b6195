// event-source-polyfill, which comes back with the last id in the query: each event once, over connections that break.
const { EventSourcePolyfill } = require("event-source-polyfill");

const [count, parameter] = [Number(process.argv[2]), process.argv[3]];
const seen = [];
const options = { lastEventIdQueryParameterName: parameter };
const tail = new EventSourcePolyfill(`${process.env.SEKALI_URL}/events?topic=t`, options);
tail.onmessage = (message) => {
  seen.push(JSON.parse(message.data).event_id);
  console.log(seen.length);
  if (seen.length < count) return;
  tail.close();
  const isRight = seen.every((id, at) => id === String(at));
  if (!isRight) console.error(seen.join(" "));
  process.exit(isRight ? 0 : 1);
};
process.on("unhandledRejection", () => {});
