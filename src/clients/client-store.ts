/** What clients need of a store; `postgres/clients.ts` is one. */

import type { Acting } from "../audit.ts";
import type { Client } from "./client.ts";

export interface ClientStore {
  find(clientId: string): Promise<Client | undefined>;
}

export interface ClientAdministrationStore extends ClientStore {
  /** False where the id is taken. */
  insert(client: Client, who: Acting): Promise<boolean>;
  list(): Promise<readonly ClientListing[]>;
  /** Its standing session ends with it. False where there is none. */
  remove(clientId: string, who: Acting): Promise<boolean>;
}

export interface ClientListing {
  readonly client: Client;
  readonly createdAtMs: number;
}
