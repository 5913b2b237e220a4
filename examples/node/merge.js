/**
 * The merge of mail.documents.v1: what a message is, from its records in any order and number.
 *
 * A message is a Map of registers, one object each, by name: a record's key behind the first "/".
 * content/<part path> is what the message (empty path) or an attachment says, labels all labels as of a historyId,
 * label/<id> one label added or removed, deleted that the message was gone. Of each register the highest version
 * wins. docs/merge-vectors.json says what any merge must answer.
 */

/** A record's value, without the texts: most of what it holds. Keep them where you need them. */
export function decode(value) {
  if (value == null) return null
  const register = JSON.parse(value)
  delete register.message?.text
  delete register.attachment?.segments
  return register
}

/** Let a record into its message; null is a record without a value: purged or forgotten. */
export function merge(message, name, register) {
  if (register === null) {
    message.delete(name)
    return
  }
  const order = version(name, register)
  if (!message.has(name) || isAbove(order, version(name, message.get(name)))) message.set(name, register)
}

/** What two records of one register compare by. Throws on a register that v1 does not have. */
export function version(name, register) {
  const { epoch, history_id: historyId } = register
  if (name.startsWith('content/')) {
    const of = register.version
    return [of.epoch, of.verdict ?? 0, of.engine, of.rank, of.digest, of.source ?? 'gmail_api']
  }
  // No label holds a zero byte, so the joined list compares as the list does.
  if (name === 'labels') {
    return [epoch, historyId, register.label_ids.toSorted().join('\0'), register.source ?? 'gmail_api']
  }
  if (name.startsWith('label/')) return [epoch, historyId, register.present]
  if (name === 'deleted') return [epoch, historyId, register.reason ?? 'deleted']
  throw new Error(`no register is called ${name}`)
}

/** Whether it exists: never deleted, or seen since. */
export function isLive(message) {
  const deleted = message.get('deleted')
  if (deleted === undefined) return true
  const seen = [...message].filter(([name]) => name === 'labels' || name.startsWith('label/'))
  return seen.some(([, register]) => isAbove(at(register), at(deleted)))
}

/** Its labels: the snapshot, and the single changes above it. */
export function labelIds(message) {
  const snapshot = message.get('labels')
  const present = new Set(snapshot?.label_ids)
  for (const [name, change] of message) {
    if (!name.startsWith('label/') || (snapshot && !isAbove(at(change), at(snapshot)))) continue
    if (change.present) present.add(change.label_id)
    else present.delete(change.label_id)
  }
  return present
}

/** What it and its attachments say, by part path; the message's own is under the empty path. */
export function contents(message) {
  const found = [...message].filter(([name]) => name.startsWith('content/'))
  return new Map(found.map(([name, register]) => [name.slice('content/'.length), register]))
}

const at = register => [register.epoch, register.history_id]

function isAbove(one, other) {
  const index = one.findIndex((value, place) => value !== other[place])
  return index >= 0 && one[index] > other[index]
}
