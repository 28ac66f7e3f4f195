// With axios, which sets `Accept`, a user agent and compression by itself.

import { createRequire } from 'node:module'
import { story } from './story.mjs'

const axios = createRequire(`${process.env.CLIENTS_MODULES}/`)('axios')

await story(async (method, path, headers, data) => {
  const response = await axios({
    method, url: process.env.CRYPTOPAY_URL + path, headers, data, validateStatus: () => true,
  })
  return { status: response.status, header: (name) => response.headers[name.toLowerCase()], body: response.data }
})
