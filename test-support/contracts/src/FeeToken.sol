// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// Keeps one percent of every transfer: who is sent 100 gets 99, and a second log tells where the rest went.
contract FeeToken is ERC20 {
    address private immutable _collector;

    constructor(string memory name, string memory symbol) ERC20(name, symbol) {
        _collector = msg.sender;
        _mint(msg.sender, 10 ** 18);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (from == address(0) || from == _collector || to == address(0)) {
            super._update(from, to, value);
            return;
        }
        uint256 fee = value / 100;
        super._update(from, to, value - fee);
        super._update(from, _collector, fee);
    }
}
