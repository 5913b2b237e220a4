/** The vectors that every merge is held to, in several orders, with repetitions: node --test */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { contents, decode, isLive, labelIds, merge } from './merge.js'

const path = process.env.MERGE_VECTORS ?? new URL('../../docs/merge-vectors.json', import.meta.url)

for (const { name, records, merged } of JSON.parse(readFileSync(path))) {
  test(name, () => {
    for (let turn = 0; turn < records.length; turn++) {
      records.push(records.shift())
      for (const order of [records, [...records.toReversed(), records[0]]]) {
        const message = new Map()
        for (const { key, value } of order) merge(message, key.slice(key.indexOf('/') + 1), value)
        assert.equal(isLive(message), merged.live)
        assert.deepEqual([...labelIds(message)].toSorted(), merged.label_ids)
        const versions = Object.entries(merged.contents).map(([part, { version }]) => [part, version])
        assert.deepEqual(
          Object.fromEntries([...contents(message)].map(([part, { version }]) => [part, version])),
          Object.fromEntries(versions)
        )
      }
    }
  })
}

test('records without a value take a register out', () => {
  const message = new Map()
  merge(message, 'deleted', decode('{"epoch": 1, "history_id": 5}'))
  assert.equal(isLive(message), false)
  merge(message, 'deleted', decode(null))
  assert.equal(isLive(message), true)
})

test('registers that v1 does not have are refused', () => {
  assert.throws(() => merge(new Map(), 'unheard', { epoch: 1, history_id: 5 }), /unheard/)
})
