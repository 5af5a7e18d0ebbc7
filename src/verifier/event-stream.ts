/** Server-sent events, as the HTML standard's event stream interpretation has them. */

export interface ServerSentEvent {
  readonly event: string;
  readonly id: string | undefined;
  readonly data: string;
}

/** A line or an event without end is none. */
const eventMaxCharacters = 64 * 1024;

/** Throws where an event is too long. */
export async function* readEvents(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let event = "message";
  let id: string | undefined;
  let data: string[] = [];
  let dataCharacters = 0;
  for await (const chunk of chunks) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r\n|\n|\r/);
    rest = lines.pop() ?? "";
    if (rest.length > eventMaxCharacters) throw new Error("the event stream has a line without end");
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { event, id, data: data.join("\n") };
        event = "message";
        data = [];
        dataCharacters = 0;
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "event") event = value;
      else if (name === "data") {
        data.push(value);
        dataCharacters += value.length + 1;
        if (dataCharacters > eventMaxCharacters) throw new Error("the event stream has an event without end");
      } else if (name === "id") id = value;
    }
  }
}
