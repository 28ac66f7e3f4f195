// The overview's sample to the letter, then the rest with the same function.

import assert from 'node:assert/strict'
import { story } from './story.mjs'

const host = process.env.CRYPTOPAY_URL
const key = process.env.CRYPTOPAY_KEY

// Using fetch() - available in modern browsers and Node.js 18+
const response = await fetch(host + '/api/payment-orders/', {
  method: 'POST',
  headers: {
    'Authorization': 'Bearer ' + key,
    'Content-Type': 'application/json'
  },
  body: JSON.stringify({
    amount: '100.00',
    currency: 'USDC',
    blockchain: 'base',
    order_info: JSON.stringify({
      product: 'Premium Plan'
    }),
    nonce: Date.now() + Math.floor(Math.random() * 1000000)
  })
});
const order = await response.json();
assert.equal(order.data.amount, '100.00')

await story(async (method, path, headers, body) => {
  const response = await fetch(host + path, { method, headers, body })
  return { status: response.status, header: (name) => response.headers.get(name), body: await response.json() }
})
