// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.20;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

/// A wallet without a key of its own, which is asked about signatures (EIP-1271). `manner` says how it answers.
contract SmartWallet {
    bytes4 private constant ACCEPTED = 0x1626ba7e;

    address public immutable owner;
    uint8 public immutable manner;

    constructor(address owner_, uint8 manner_) {
        owner = owner_;
        manner = manner_;
    }

    function isValidSignature(bytes32 hash, bytes calldata signature) external view returns (bytes4) {
        if (manner == 1) {
            revert("not today");
        }
        if (manner == 4) {
            for (uint256 i = 0; ; ++i) {
                if (uint256(keccak256(abi.encode(i))) == 0) {
                    break;
                }
            }
        }
        (address signer, , ) = ECDSA.tryRecoverCalldata(hash, signature);
        if (manner == 7) {
            assembly {
                calldatacopy(0, 0, calldatasize())
                return(0, calldatasize())
            }
        }
        if (signer != owner) {
            return 0xffffffff;
        }
        if (manner == 2) {
            // The word of an older draft of the standard.
            return 0x20c13b0b;
        }
        if (manner == 3) {
            assembly {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 0x80000)
            }
        }
        if (manner == 5) {
            assembly {
                mstore(0, shl(224, 0x1626ba7e))
                return(0, 4)
            }
        }
        if (manner == 6) {
            assembly {
                return(0, 0)
            }
        }
        return ACCEPTED;
    }
}
