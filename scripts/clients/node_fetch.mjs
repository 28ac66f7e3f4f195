// With node-fetch.

import { pathToFileURL } from 'node:url'
import { story } from './story.mjs'

const { default: fetch } = await import(pathToFileURL(`${process.env.CLIENTS_MODULES}/node_modules/node-fetch/src/index.js`))

await story(async (method, path, headers, body) => {
  const response = await fetch(process.env.CRYPTOPAY_URL + path, { method, headers, body })
  return { status: response.status, header: (name) => response.headers.get(name), body: await response.json() }
})
