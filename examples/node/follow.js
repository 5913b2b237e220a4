/**
 * Follow a label, alert on infected attachments, count mail by sender: node follow.js INBOX
 *
 * Says JSON lines. The topic is compacted, so each start reads it from its beginning: in a group of its own, of
 * which nothing is committed.
 */
import { randomUUID } from 'node:crypto'
import { Consumer } from '@platformatic/kafka'
import { connection } from './connection.js'
import { contents, decode, isLive, labelIds, merge } from './merge.js'

const topic = process.env.DOCUMENTS_TOPIC ?? 'mail.documents.v1'
const group = process.env.GROUP ?? 'follow-node'
const label = process.argv[2]

/** Of a message whom it counts for, and what there is to say of it; of one that is deleted, nothing. */
function view(message) {
  const parts = contents(message)
  const own = parts.get('')
  if (!own || !isLive(message)) return { says: new Set() }
  const says = new Set()
  if (labelIds(message).has(label)) {
    says.add(JSON.stringify({ labelled: own.message_id, subject: own.message.subject }))
  }
  for (const [path, { attachment }] of parts) {
    if (path && attachment.scan === 'infected') {
      says.add(JSON.stringify({ infected: own.message_id, part_path: path, signature: attachment.signature }))
    }
  }
  return { sender: own.message.sender, says }
}

const messages = new Map() // by message key
const senders = new Map()
let told = '{}'

function see(record) {
  const [key] = record.key.split('/', 1)
  if (!messages.has(key)) messages.set(key, new Map())
  const before = view(messages.get(key))
  merge(messages.get(key), record.key.slice(key.length + 1), decode(record.value))
  const after = view(messages.get(key))
  if (before.sender !== undefined) senders.set(before.sender, senders.get(before.sender) - 1)
  if (after.sender !== undefined) senders.set(after.sender, (senders.get(after.sender) ?? 0) + 1)
  for (const line of after.says.difference(before.says)) console.log(line)
}

setInterval(() => {
  const counts = JSON.stringify(Object.fromEntries([...senders].filter(([, count]) => count)))
  if (counts !== told) console.log(`{"senders": ${(told = counts)}}`)
}, 1000)

const text = value => value?.toString()
const groupId = `${group}-${randomUUID()}`
const deserializers = { key: text, value: text }
const consumer = new Consumer({ ...connection(), clientId: 'follow', groupId, deserializers })
const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
for await (const record of stream) see(record)
